from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("attempts", "0003_review")]

    operations = [
        migrations.AddField(
            model_name="attempt", name="held_roots", field=models.JSONField(null=True)
        ),
    ]
