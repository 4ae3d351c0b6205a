from sql.tenants import *
from databases import *
def test_x(database):
    a=make_tenant(database,"alpha"); b=make_tenant(database,"bravo")
    make_documents(database,a,b)
    with database.connect(OWNER) as o:
        print(findings(o))
    with database.connect() as c:
        with inside(c,a) as ctx:
            print(ctx, rows(c,"select title from documents"))
            print(c.execute("explain analyze select * from documents").fetchall())
