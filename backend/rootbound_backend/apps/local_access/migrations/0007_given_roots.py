from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("local_access", "0006_machines")]

    operations = [
        migrations.AddField(
            model_name="runpolicy", name="given_roots", field=models.JSONField(default=list)
        ),
    ]
