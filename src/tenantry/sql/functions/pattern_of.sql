-- A pattern that finds a user's id and these addresses in a text, as words of their own: `ana@example.com` in
-- `Ana <ana@example.com>`, not in `joana@example.com`. In JSON that nobody could read, what precedes may be a `\n`.
create or replace function tenantry.pattern_of(user_id text, emails text[])
returns text language sql immutable as $$
  select '(?:\m|(?<=\\[bfnrt]))' || user_id || '\M'
    || coalesce('|(?:(?<![\w.%+-])|(?<=\\[bfnrt]))(?:' || string_agg(regexp_replace(address, '(\W)', '\\\1', 'g'), '|') || ')(?![\w-]|\.\w)', '')
  from unnest(emails) as address
$$;
