"""The audit log: what every API operation was about to do and what came of it, so that no one can change it unseen.

Records (:mod:`~api.audit.record`) are chained by hash (:mod:`~api.audit.chain`) and written to local files
(:mod:`~api.audit.writer`), many callers' with one flush (:mod:`~api.audit.journal`); complete files go to the store
(:mod:`~api.audit.shipping`), from where anybody with the public key can check them (:mod:`~api.audit.verify`).
"""
