-- What the app has belongs to its first customer; from here on each organization has its own.
select tenantry.share_table_v1('languages', 'read');
select tenantry.isolate_table_v1('notebooks', '{"backfill": "org_first"}');
select tenantry.isolate_table_v1('notes', '{"backfill": "org_first"}');
