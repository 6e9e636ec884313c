"""What this pool does with each submit command and attribute that needs no code of its own. Tables only.

A known command that is in none of these tables is refused: nothing is dropped or passed on unseen.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

# Passed on as they are: they mean the same in a remote, spooled pool.
PASSED: Final = frozenset(
    """
    allow_arguments_v1 allow_environment_v1 allowed_execute_duration allowed_job_duration batch_name
    checkpoint_exit_code concurrency_limits concurrency_limits_expr core_size cron_day_of_month cron_day_of_week
    cron_hour cron_minute cron_month cron_prep_time cron_window deferral_prep_time deferral_time deferral_window
    description docker_override_entrypoint docker_pull_policy erase_output_and_error_on_restart
    exit_requirements hold hold_kill_sig image_size job_ad_information_attrs job_lease_duration job_machine_attrs
    job_machine_attrs_history_length job_max_vacate_time keep_claim_idle kill_sig kill_sig_timeout log_xml
    max_job_retirement_time max_retries max_transfer_input_mb max_transfer_output_mb next_job_start_delay noop_job
    noop_job_exit_code noop_job_exit_signal on_exit_hold on_exit_hold_reason on_exit_hold_subcode on_exit_remove
    periodic_hold periodic_hold_reason periodic_hold_subcode periodic_release periodic_remove periodic_vacate
    preserve_relative_paths priority rank remove_kill_sig requirements retry_request_disk
    retry_request_memory retry_request_memory_increase retry_request_memory_max retry_until skip_if_dataflow
    submit_event_notes submit_event_user_notes success_exit_code transfer_checkpoint_files transfer_error
    transfer_input transfer_output ulog_execute_attrs want_graceful_removal
    """.split()  # noqa: SIM905  a table of words reads better than a list of strings
)

# Passed on, and read by HTCondor as a boolean: true, false, a number or an expression, not yes or no.
BOOLEANS: Final = frozenset(
    """
    allow_arguments_v1 allow_environment_v1 docker_override_entrypoint erase_output_and_error_on_restart hold log_xml
    preserve_relative_paths skip_if_dataflow transfer_error transfer_input transfer_output
    """.split()  # noqa: SIM905
)
# Passed on, and read by HTCondor as a whole number or an expression that is one.
INTEGERS: Final = frozenset(
    """
    checkpoint_exit_code core_size cron_prep_time cron_window deferral_prep_time deferral_time deferral_window
    image_size job_machine_attrs_history_length kill_sig_timeout max_retries priority success_exit_code
    """.split()  # noqa: SIM905
)
SIGNALS: Final = ("hold_kill_sig", "kill_sig", "remove_kill_sig")

# Passed on, and read by HTCondor as a ClassAd expression.
EXPRESSIONS: Final = frozenset(
    """
    allowed_execute_duration allowed_job_duration concurrency_limits_expr exit_requirements job_lease_duration
    job_max_vacate_time keep_claim_idle max_job_retirement_time max_transfer_input_mb max_transfer_output_mb
    next_job_start_delay noop_job noop_job_exit_code noop_job_exit_signal on_exit_hold on_exit_hold_reason
    on_exit_hold_subcode on_exit_remove periodic_hold periodic_hold_reason periodic_hold_subcode periodic_release
    periodic_remove periodic_vacate rank retry_until want_graceful_removal
    """.split()  # noqa: SIM905
)

# Left out with a note: the job runs the same without them.
DROPPED: Final[Mapping[str, str]] = {
    **dict.fromkeys(["notify_user", "email_attributes", "notification"], "the pool sends no mail"),
    **dict.fromkeys(
        ["accounting_group", "accounting_group_user", "nice_user"], "each person is accounted for by token"
    ),
    **dict.fromkeys(["run_as_owner", "load_profile"], "executors have no accounts of people"),
    **dict.fromkeys(["copy_to_spool", "skip_filechecks"], "swarmhpc checks and sends every file"),
    **dict.fromkeys(
        ["encrypt_input_files", "encrypt_output_files", "dont_encrypt_input_files", "dont_encrypt_output_files"],
        "every transfer in this pool is encrypted",
    ),
    **dict.fromkeys(["buffer_files", "buffer_size", "buffer_block_size", "compress_files", "append_files"], "obsolete"),
    **dict.fromkeys(["fetch_files", "local_files", "file_remaps", "disk_usage"], "obsolete"),
    **dict.fromkeys(
        ["dagman_job_id", "dagman_log", "batch_id", "jobset", "match_list_length"], "not for people to set"
    ),
    **dict.fromkeys(["starter_debug", "starter_log"], "only for finding faults in HTCondor"),
    "leave_in_queue": "swarmhpc fetches the results and then removes the jobs",
    "remote_initialdir": "each job has a scratch directory of its own",
    "stack_size": "obsolete",
    "manifest": "not collected here",
    "manifest_dir": "not collected here",
}

# Left out with a warning: a job that counts on them will fail.
MISSING: Final[Mapping[str, str]] = {
    **dict.fromkeys(["x509userproxy", "use_x509userproxy"], "this pool has no X.509 proxies"),
    **dict.fromkeys(["delegate_job_gsi_credentials_lifetime"], "this pool has no X.509 proxies"),
    **dict.fromkeys(
        ["use_oauth_services", "use_scitokens", "scitokens_file", "send_credential"], "this pool keeps no credentials"
    ),
    "docker_send_credentials": "your registry password would leave this machine",
    "project_name": "this pool has no projects",
}

_CLOUD = "it belongs to the grid universe, and this pool runs jobs on its own executors only"
# Refused: the job would mean something else without them, or they would open the pool.
REFUSED: Final[Mapping[str, str]] = {
    **dict.fromkeys(["container_service_names"], "this pool publishes no ports of jobs"),
    "transfer_plugins": "it would run a program of yours outside of the job",
    "encrypt_execute_directory": "executors cannot encrypt scratch directories",
    "mount_under_scratch": "executors cannot mount over system directories",
    "container_target_dir": "the scratch directory's place is the executor's to choose",
    "want_job_networking": "write docker_network_type = none for a job without network",
    "output_destination": "results come back to this machine; send them elsewhere from the job",
    "output_directory": "results come back to this machine; use transfer_output_remaps",
    "checkpoint_destination": "checkpoints stay in the pool",
    "public_input_files": "this pool has no web server for inputs; use transfer_input_files",
    **dict.fromkeys(["machine_count", "node_count"], "it belongs to the parallel universe: every job is one machine's"),
}
REFUSED_PREFIXES: Final[Mapping[str, str]] = {
    **dict.fromkeys(["ec2_", "gce_", "azure_", "aws_", "s3_", "gs_", "arc_", "batch_", "cloud_", "grid_"], _CLOUD),
    **dict.fromkeys(["vm_", "xen_"], "it belongs to the vm universe, which this pool does not have"),
    **dict.fromkeys(["java_", "jar_"], "it belongs to the java universe; use a docker image with Java"),
}

UNIVERSES: Final[Mapping[str, str]] = {
    "scheduler": "it would run the job inside the access point",
    "local": "it would run the job inside the access point",
    "grid": _CLOUD,
    "java": "use universe = docker and an image with Java",
    "vm": "this pool runs no virtual machines",
    "parallel": "jobs over several machines are not possible here",
    "mpi": "jobs over several machines are not possible here",
    "standard": "HTCondor itself no longer has it",
    "pvm": "HTCondor itself no longer has it",
}
# HTCondor reads the number of a universe too (`universe = 5`).
UNIVERSE_NUMBERS: Final[Mapping[str, str]] = {
    "5": "vanilla", "7": "scheduler", "9": "grid", "10": "java", "11": "parallel", "12": "local", "13": "vm",
}  # fmt: skip

# Job attributes that swarmhpc, HTCondor's security or the executors' docker shim rely on (lower case).
TRUSTED_ATTRIBUTES: Final = frozenset(
    """
    acctgroup acctgroupuser accountinggroup args arguments authtokenid authtokenissuer authtokensubject clusterid cmd
    completiondate enteredcurrentstatus env environment err environmentv1 globaljobid holdreason imagesize in iwd
    jobleaseduration jobnotification jobstatus jobuniverse leavejobinqueue niceuser ntdomain osuser out owner procid
    requestcpus requestdisk requestgpus requestmemory rootdir shouldtransferfiles transfererror transferexecutable
    transferin transferinput transferoutput transferoutputremaps transferplugins user userlog wantgracefulremoval
    wantioproxy wantjobnetworking wantsandboximage wantsif whentotransferoutput x509userproxy
    """.split()  # noqa: SIM905
)
HARMLESS_ATTRIBUTES: Final = frozenset({"spoolonevict"})  # in spite of their beginning
TRUSTED_PREFIXES: Final = (
    "docker", "container", "wantdocker", "wantcontainer", "swarmhpc", "submit_", "stagein",
    "stageout", "spool", "oauth",
)  # fmt: skip
