"""Records as the Frontend API shows them: to the person themselves, or to members of their organizations."""
