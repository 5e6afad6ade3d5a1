"""What a Prefect server does by itself: it proposes a retraining, closes dead runs, and tells people."""

from __future__ import annotations

from uuid import UUID

from prefect.blocks.notifications import CustomWebhookNotificationBlock
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.objects import StateType
from prefect.events.actions import ChangeFlowRunState, RunDeployment, SendNotification
from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture
from prefect.exceptions import ObjectNotFound

from flows.server.events import APPROVAL_NEEDED, INGESTED, PROPOSED
from flows.server.flow_runs import longest_silence
from posa_vla.errors import BadInput

PROPOSAL = "propose-retraining/default"
WEBHOOK = "posa-webhook"

_RUNS = {"prefect.resource.id": "prefect.flow-run.*"}
_ENDED_BADLY = {"prefect.flow-run.Failed", "prefect.flow-run.Crashed", "prefect.flow-run.TimedOut"}


def ensure_automations(webhook_url: str) -> list[str]:
    """Creates or updates the automations by name; one that somebody switched off stays off.

    They are: a proposal where data has come, the end of runs that no longer give a sign of life and, with a webhook,
    word of runs that ended badly (an expired proposal is one), of approvals needed, and of proposals.

    The webhook is Prefect's own notification block, called from the server with a POST of `{"text": ...}`, over http
    or https. As it is saved here it may be a private or loopback address; `allow_private_urls` of the block says no
    to those. E-mail is not among them: Prefect's only block for it is one company's (SendGrid).

    Args:
        webhook_url: Who is told; nobody where it is empty, and automations of an earlier webhook are removed.

    Returns:
        Names of the automations that there are now.

    Raises:
        BadInput: Not an http(s) address, or the deployment that proposes is missing.
    """
    if webhook_url and not webhook_url.startswith(("http://", "https://")):
        raise BadInput(f"got webhook {webhook_url!r}, expected http://... or https://...: set POSA_NOTIFY_WEBHOOK")
    with get_client(sync_client=True) as client:
        wanted = [_proposal(client), _zombies()]
        if webhook_url:
            wanted += _notifications(_webhook(client, webhook_url))
        else:
            for unwanted in _notifications(UUID(int=0)):
                for stale in client.read_automations_by_name(unwanted.name):
                    client.delete_automation(stale.id)
        for automation in wanted:
            _ensure(client, automation)
    return [automation.name for automation in wanted]


def _ensure(client: SyncPrefectClient, automation: AutomationCore) -> None:
    there = client.read_automations_by_name(automation.name)
    if not there:
        client.create_automation(automation)
        return
    first, *twins = there
    # Prefect's client sends on an update only what was set by hand, and its server misses the rest.
    complete = {**automation.model_dump(exclude={"owner_resource"}), "enabled": first.enabled}
    client.update_automation(first.id, AutomationCore.model_validate(complete))
    for twin in twins:
        client.delete_automation(twin.id)


def _proposal(client: SyncPrefectClient) -> AutomationCore:
    try:
        deployment = client.read_deployment_by_name(PROPOSAL)
    except ObjectNotFound:
        raise BadInput(
            f"the Prefect server has no deployment {PROPOSAL}: prefect deploy --all --no-prompt, and again"
        ) from None
    return AutomationCore(
        name="posa: data ingested, propose a retraining",
        description="Starts a flow that counts, and asks a person where the episodes are enough.",
        trigger=EventTrigger(expect={INGESTED}, posture=Posture.Reactive, threshold=1),
        actions=[RunDeployment(deployment_id=deployment.id, parameters={"target": "{{ event.payload.target }}"})],
    )


def _zombies() -> AutomationCore:
    return AutomationCore(
        name="posa: flow run without a heartbeat",
        description="A run whose process is gone is marked as crashed.",
        # Any sign of life counts, so that a suspended run is not a dead one.
        trigger=EventTrigger(
            after={"prefect.flow-run.heartbeat"},
            expect={"prefect.flow-run.*"},
            match=_RUNS,
            for_each={"prefect.resource.id"},
            posture=Posture.Proactive,
            threshold=1,
            within=longest_silence(),
        ),
        actions=[ChangeFlowRunState(state=StateType.CRASHED, message="no heartbeat: its process is gone")],
    )


def _webhook(client: SyncPrefectClient, url: str) -> UUID:
    # The address is often itself the password, and a block keeps only its secrets from those who look at it.
    block = CustomWebhookNotificationBlock(
        name="posa",
        url="{{webhook}}",
        json_data={"text": "{{subject}}\n{{body}}"},
        secrets={"webhook": url},
    )
    block.save(WEBHOOK, overwrite=True)
    document = client.read_block_document_by_name(WEBHOOK, CustomWebhookNotificationBlock.get_block_type_slug())
    return document.id


def _notifications(block: UUID) -> list[AutomationCore]:
    def told(name: str, trigger: EventTrigger, subject: str, body: str) -> AutomationCore:
        action = SendNotification(block_document_id=block, subject=subject, body=body)
        return AutomationCore(name=f"posa: tell, {name}", trigger=trigger, actions=[action])

    return [
        told(
            "a flow run ended badly",
            EventTrigger(expect=_ENDED_BADLY, match=_RUNS, for_each={"prefect.resource.id"}, threshold=1),
            "{{ flow.name }}: {{ flow_run.state.name }}",
            "Run {{ flow_run.name }}: {{ flow_run.state.message }} {{ flow_run|ui_url or '' }}",
        ),
        told(
            "approval needed",
            EventTrigger(expect={APPROVAL_NEEDED}, threshold=1),
            "Approval needed: {{ event.payload.target }}",
            "{{ event.payload.pending }}",
        ),
        told(
            "retraining proposed",
            EventTrigger(expect={PROPOSED}, threshold=1),
            "Retrain {{ event.payload.target }}? {{ event.payload.new_episodes }} new episodes",
            "{{ event.payload.proposal }}",
        ),
    ]
