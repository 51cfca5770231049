"""One model over several processes, on MLX's own distributed back ends.

Rank 0 has the requests, the scheduler and the sampler. Before each thing it computes it tells the others what it
is, and all compute it together; what follows from the logits is chosen on rank 0 and shared.

group      the collectives: what all ranks hear, agree on and share
plan       what rank 0 tells the others
leader     rank 0's batch                    follower   the others' loop
control    who is alive, and who is to wake   joining    how a group comes together
progress   whether a step takes too long      warming    the steps before the first request
"""

CHECK_MARK = "omlx cluster check: "
"""Stands before what rank 0 of a check prints, among the lines of other programs."""

MLX_RANK = "MLX_RANK"
RANK_VARIABLES = (MLX_RANK, "OMPI_COMM_WORLD_RANK", "PMI_RANK")
"""Where MLX's launchers, Open MPI and MPICH say which rank a process is."""

DISAGREES_STATUS = 78
"""An engine's exit status where ranks have not the same, which a new start cannot mend; sysexits' `EX_CONFIG`."""
