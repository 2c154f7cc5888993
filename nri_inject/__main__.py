"""`python -m nri_inject`, and the entry of the self-contained build."""

from nri_inject.programs import main

main()
