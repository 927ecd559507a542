"""The one line that a test suite needs: a hundred random lives, in each of which anything may happen.

python -m unittest examples/tutorial/lives.py
"""

from after import PatientLogin

from fsm_conn.testing import lifecycle_test

TestPatientLogin = lifecycle_test(PatientLogin)
