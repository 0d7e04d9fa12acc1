"""For Django: `ENGINE = "rdsiam.django.postgresql"`."""
