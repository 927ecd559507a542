"""The life that showed the bug, as a test.

python examples/tutorial/regression.py
"""

from after import PatientLogin

from fsm_conn.testing import Life


def test_a_login_under_way_can_be_ended() -> None:
    life = Life(PatientLogin)
    life.connect()
    life.answer("open", "ok")
    life.disconnect()
    life.end()


if __name__ == "__main__":
    test_a_login_under_way_can_be_ended()
    print("passed")
