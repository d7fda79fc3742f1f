"""The Django project, the supervisor and the services it embeds: everything that starts and joins the rooms."""
