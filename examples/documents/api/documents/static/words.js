// Fills in the number of words that a job counts after the answer: asks until it is there, each time a little later.

const PAUSES = [200, 400, 800, 1600, 3200, 6400]; // milliseconds

/** @param {HTMLElement} place */
async function follow(place) {
  for (const pause of PAUSES) {
    await new Promise((resolve) => setTimeout(resolve, pause));
    // In this tab's organization, whatever another tab has switched to.
    const answer = await window.tenantry.fetch(`/api/documents/${place.dataset.wordsOf}`);
    if (!answer.ok) return;
    const { words } = await answer.json();
    if (words === null) continue;
    place.textContent = words === 1 ? "1 word" : `${words.toLocaleString("en")} words`;
    return;
  }
}

document.querySelectorAll("[data-words-of]").forEach(follow);
