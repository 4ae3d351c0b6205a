"""What Tenantry costs: each module answers one question as ratios to a floor, measured in the same run.

make bench                                   every question, some minutes each
make bench ARGS="webhook --quick"            one question, under a minute
make bench ARGS="request --quick --only floor,ours"
"""
