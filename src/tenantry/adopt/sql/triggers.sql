-- Their triggers that an UPDATE of any column fires.
select c.oid, quote_ident(t.tgname)
from pg_trigger as t join pg_class as c on c.oid = t.tgrelid join pg_namespace as n on n.oid = c.relnamespace
where not t.tgisinternal and t.tgenabled <> 'D' and t.tgtype & 16 <> 0 and t.tgattr = '' and t.tgname !~ 'tenantry_adopt' and {app}
order by 1, 2
