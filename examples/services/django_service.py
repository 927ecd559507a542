"""A pool of plugins in Django, in one file; in a project, `pool` and `add` go into a module of the application.

pip install 'fsm_conn[blocking]' django
python django_service.py runserver --noreload
"""

import sys
from functools import cache
from threading import Lock

from django.conf import settings
from django.core.management import execute_from_command_line
from django.http import HttpRequest, JsonResponse
from django.urls import path

from fsm_conn import CallOptions, Plugin
from fsm_conn.blocking import ConnectionPool

CALCULATOR = Plugin([sys.executable, "-m", "fsm_conn.demo.calculator"])
SAFE_TO_REPEAT = CallOptions(idempotent=True, timeout=30)

_one_at_a_time = Lock()


@cache
def _opened() -> ConnectionPool:
    opened = ConnectionPool(CALCULATOR, pool_size=2, name="calculator")
    opened.initialize()
    return opened


def pool() -> ConnectionPool:
    """One for each process, made by its first request."""
    with _one_at_a_time:
        return _opened()


def add(request: HttpRequest, a: int, b: int) -> JsonResponse:
    return JsonResponse({"result": pool().call("calculator.Add", SAFE_TO_REPEAT, a=a, b=b).result})


urlpatterns = [path("add/<int:a>/<int:b>", add)]
settings.configure(ROOT_URLCONF=__name__, ALLOWED_HOSTS=["127.0.0.1", "localhost"])

if __name__ == "__main__":
    execute_from_command_line(sys.argv)
