"""Where pieces of work are computed: in this process, in several, or on a Ray cluster.

The pieces are cut by the caller and the results are the same whatever computes them; an engine
only decides where. Everything it needs to survive a lost worker stands in :mod:`.scheduling`.
"""

from recuse.engine.contract import Engine, InProcess, Retries
from recuse.engine.processes import Processes
from recuse.engine.ray_tasks import RayTasks

__all__ = ["Engine", "InProcess", "Processes", "RayTasks", "Retries"]
