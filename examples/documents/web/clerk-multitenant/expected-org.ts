/**
 * The header in which a request says for which organization it is, by id or slug. The server compares it with the
 * session's, and refuses where they differ: it chooses nothing. Browser, server and middleware write it.
 */
export const EXPECTED_ORG = "tenantry-expected-org";
