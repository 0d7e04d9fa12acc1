"""For Django: `ENGINE = "rdsiam.django.postgresql"` or `"rdsiam.django.mysql"`."""
