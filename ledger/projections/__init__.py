"""What is believed, and why: pure answers from the first N entries, and the disposable index that finds them.

``facts`` says what an event states, ``acts`` what that does to a unit, ``replay`` what is believed after all of it in
the order of effective time. ``store`` keeps facts and the index from units to them; nothing that is believed is stored.
"""
