"""The model that the tests of the Django backend store: its default counts how often it is computed."""

from django.db import models
from django.utils import timezone


def expensive_calculation():
    """Return the time, and count the call."""
    expensive_calculation.num_runs += 1
    return timezone.now()


expensive_calculation.num_runs = 0


class Poll(models.Model):
    """A question with an answer, and a default that is called."""

    question = models.CharField(max_length=200)
    answer = models.CharField(max_length=200)
    pub_date = models.DateTimeField("published", default=expensive_calculation)
