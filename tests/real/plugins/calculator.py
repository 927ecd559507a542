"""The packaged calculator, under the name that the documentation gives it."""

from fsm_conn.demo.calculator import main

main()
