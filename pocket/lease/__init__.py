"""Training the UNet on a rented GPU for some minutes: what travels there, the run, and what comes back.

`parcel` owns the files that come back; only `tree` moves anything in the repository.
"""
