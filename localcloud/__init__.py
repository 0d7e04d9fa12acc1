"""localcloud: AWS on one machine, with databases that verify tokens as RDS does."""
