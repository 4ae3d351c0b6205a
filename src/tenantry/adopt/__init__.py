"""Moves a live app behind tenant isolation: reads its tables, proposes, applies in steps, undoes, verifies.

Its modules in reading order. A group imports only itself and those before it.

What there is
    names        of tables and columns, as SQL writes them
    answers      of one value, or of one column
    catalog      the app's tables as PostgreSQL has them; the queries are in the folder `sql`
    functions    those of the app that a column more would break

What is decided
    plan         whose each table's rows are, where a user's rows go, and what contradicts itself in that
    references   which no foreign key enforces
    models       what SQLAlchemy models say of tables, and the database does not
    suggestions  what columns could mean by their names
    ownership    proposes a plan
    config       a plan as adopt.toml
    graph, svg   a plan as a picture

What is to be done
    step         its SQL, what undoes it, what it locks
    ddl, grants  pieces of SQL
    owners       what has to be known of users and organizations, to give their rows a tenant
    keys         successors of keys, indexes and foreign keys, with the tenant
    transition   the steps of one table
    handmade     the steps of the app's own table of organizations
    steps        those of a plan, in their order

Doing it
    identity     what the tables are, whatever they are called by now
    record       of the move, in the database: its steps, and how far each is
    runner       runs steps on a live database, and undoes them

Looking: before, meanwhile, after
    obstacles    what a move would break, or could not give back
    drift        where the app's own organizations and the mirror differ
    waiting      rows that wait for their tenant, and for what
    verify       what was lost, changed, or is another's
    preflight    what must hold before anything is changed, and before rows are hidden
    arrivals     what is added to a plan that has begun
    news         what came into the database since
    partitions   that come and go
    report       what isolation would refuse

All of it
    move           what the command calls
    progress       how far a move is, and how fast
    script         a move for psql
    revisions      a move for Alembic
    organizations  makes in Clerk those that a plan needs
"""
