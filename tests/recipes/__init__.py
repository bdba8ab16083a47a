"""The programs of docs/scheduled.md, run as they would be: by cron, in a Celery worker, by APScheduler."""
