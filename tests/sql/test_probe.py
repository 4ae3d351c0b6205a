from databases import Database, SUPERUSER
from sql.clerk_objects import *
from sql.mirror import Mirror
def test_x(database: Database) -> None:
    with database.connect() as c, database.connect(SUPERUSER) as s:
        app, m = Mirror(c), Mirror(s)
        print(app.deliver(event("organizationMembership.created", membership())))
        print(app.deliver(event("user.created", user())))
        print(m.state()); print(m.contents()); print(m.kinds())
        print(app.deliver(event("email.created", {"id":"e", "code": "123"})))
        d = app.delivery(event("user.updated", user(), instance_id="ins_x"))
        for what in (lambda: app.deliver_all([d, d]), lambda: app.merge_page("memberships", [], START+50, ["orgmem_1"]), lambda: app.merge_page("memberships", [], START+50, ["orgmem_9"]),
          lambda: app.deliver(event("user.updated", user("u"+"".join(chr(200+i%4000) for i in range(9000))))),
          lambda: app.deliver(event("organizationMembership.deleted", {"id": "orgmem_1","updated_at":START+9999}, at=START+99999))):
            try: print(what())
            except Exception as e: print("FAIL", repr(e)[:300])
        print(m.contents()); print(m.kinds())
