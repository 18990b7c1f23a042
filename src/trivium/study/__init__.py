"""Did it help? Arms × seeds of all the choices, at equal budget, judged once, with a verdict and a report.

``runner`` runs a study, ``arms`` knows what is compared with what, ``job`` trains one arm with one seed, ``statistics``
and ``verdict`` judge, ``report`` writes it down. Nothing is imported here, so that each verb loads what it needs.
"""
