//! What starts pods: each kind becomes a controller and a pod template.

use k8s_openapi::api::apps::v1::{DaemonSet, Deployment, ReplicaSet, StatefulSet};
use k8s_openapi::api::batch::v1::{self as batch, CronJob, JobSpec};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod, PodTemplateSpec};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::{ManifestError, One, Reading, limits, valid};
use crate::desired::{Concurrency, Controller, Job, Name, Workload};
use crate::network::endpoints::host_ports;

pub(super) fn read(one: &One<'_>, reading: &mut Reading) -> Result<(), ManifestError> {
    let mut unsupported = Vec::new();
    let (controller, template) = match one.kind {
        "Deployment" => deployment(one.typed()?),
        "ReplicaSet" => replica_set(one.typed()?),
        "StatefulSet" => stateful_set(one, one.typed()?, reading),
        "DaemonSet" => {
            let set: DaemonSet = one.typed()?;
            let template = set.spec.map(|spec| spec.template).unwrap_or_default();
            (Controller::Daemon, template)
        }
        "Job" => {
            let spec = one.typed::<batch::Job>()?.spec.unwrap_or_default();
            (Controller::Job(job(&spec, &mut unsupported)), spec.template)
        }
        "CronJob" => cron_job(one.typed()?, &mut unsupported),
        _ => {
            let pod: Pod = one.typed()?;
            let template = PodTemplateSpec {
                metadata: Some(pod.metadata),
                spec: pod.spec,
            };
            (Controller::Single, template)
        }
    };
    valid::pod(one, &template.spec.clone().unwrap_or_default())?;
    if let Some(spec) = &template.spec {
        limits::of_pod(spec, &mut unsupported, &mut reading.notes);
    }
    let lines = unsupported.into_iter();
    let lines = lines.map(|line| format!("{}: {line}", one.shown()));
    reading.unsupported.extend(lines);
    reading.desired.workloads.push(Workload {
        kind: one.kind.to_owned(),
        name: one.name.clone(),
        controller,
        hash: hash(&template),
        template,
    });
    Ok(())
}

/// Ten hexadecimal digits over a template.
pub(crate) fn hash(template: &PodTemplateSpec) -> String {
    // A template is plain data; it always becomes JSON.
    let text = serde_json::to_vec(template).unwrap_or_default();
    blake3::hash(&text).to_hex()[..10].to_owned()
}

fn count(number: Option<i32>, default: u32) -> u32 {
    number.map_or(default, |n| u32::try_from(n).unwrap_or(0))
}

fn deployment(deployment: Deployment) -> (Controller, PodTemplateSpec) {
    let spec = deployment.spec.unwrap_or_default();
    let replicas = count(spec.replicas, 1);
    let strategy = spec.strategy.unwrap_or_default();
    // A port of the machine can be had once: the old pod leaves it first. (On a cluster of one
    // node the new one would wait for that forever.)
    let pod = spec.template.spec.as_ref();
    let takes_ports = pod.is_some_and(|pod| host_ports(pod).next().is_some());
    if takes_ports || strategy.type_.as_deref() == Some("Recreate") {
        let controller = Controller::Replicas {
            replicas,
            surge: None,
            unavailable: 0,
        };
        return (controller, spec.template);
    }
    let rolling = strategy.rolling_update.unwrap_or_default();
    // Defaults 25 %; surge rounds up, unavailable down (Kubernetes API, RollingUpdateDeployment).
    let surge = share(rolling.max_surge, replicas, Round::Up);
    let mut unavailable = share(rolling.max_unavailable, replicas, Round::Down);
    if surge == 0 && unavailable == 0 {
        unavailable = 1;
    }
    let controller = Controller::Replicas {
        replicas,
        surge: Some(surge),
        unavailable,
    };
    (controller, spec.template)
}

#[derive(Clone, Copy)]
enum Round {
    Up,
    Down,
}

fn share(value: Option<IntOrString>, of: u32, round: Round) -> u32 {
    let percent = match value {
        Some(IntOrString::Int(number)) => return u32::try_from(number).unwrap_or(0),
        Some(IntOrString::String(text)) => text.trim_end_matches('%').parse().unwrap_or(25),
        None => 25,
    };
    let exact = of * percent;
    match round {
        Round::Up => exact.div_ceil(100),
        Round::Down => exact / 100,
    }
}

fn replica_set(set: ReplicaSet) -> (Controller, PodTemplateSpec) {
    let spec = set.spec.unwrap_or_default();
    let controller = Controller::Replicas {
        replicas: count(spec.replicas, 1),
        surge: Some(1),
        unavailable: 0,
    };
    (controller, spec.template.unwrap_or_default())
}

fn stateful_set(
    one: &One<'_>,
    set: StatefulSet,
    reading: &mut Reading,
) -> (Controller, PodTemplateSpec) {
    let spec = set.spec.unwrap_or_default();
    let replicas = count(spec.replicas, 1);
    let mut template = spec.template;
    if let Some(pod) = &mut template.spec {
        pod.subdomain
            .get_or_insert(spec.service_name.unwrap_or_default());
        for claim in spec.volume_claim_templates.into_iter().flatten() {
            for number in 0..replicas {
                let claim = claim_name(&claim, &one.name.name, number);
                let name = Name::new(&one.name.namespace, claim);
                reading.desired.data.claims.push(name);
            }
            add_claim(pod, &claim);
        }
    }
    let controller = Controller::Ordered {
        replicas,
        one_by_one: spec.pod_management_policy.as_deref() != Some("Parallel"),
    };
    (controller, template)
}

fn claim_name(claim: &PersistentVolumeClaim, set: &str, number: u32) -> String {
    let name = claim.metadata.name.as_deref().unwrap_or_default();
    format!("{name}-{set}-{number}")
}

/// The volume that stands for a claim template; its claim's name ends with the pod's.
fn add_claim(pod: &mut k8s_openapi::api::core::v1::PodSpec, claim: &PersistentVolumeClaim) {
    use k8s_openapi::api::core::v1::{PersistentVolumeClaimVolumeSource, Volume};
    let name = claim.metadata.name.clone().unwrap_or_default();
    let volumes = pod.volumes.get_or_insert_default();
    volumes.retain(|volume| volume.name != name);
    volumes.push(Volume {
        persistent_volume_claim: Some(PersistentVolumeClaimVolumeSource {
            claim_name: format!("{name}-{}", crate::launch::POD_NAME),
            ..Default::default()
        }),
        name,
        ..Default::default()
    });
}

fn job(spec: &JobSpec, unsupported: &mut Vec<String>) -> Job {
    if spec.completion_mode.as_deref() == Some("Indexed") {
        unsupported.push("completionMode Indexed: pods get no index".to_owned());
    }
    if spec.pod_failure_policy.is_some() {
        unsupported.push("podFailurePolicy: every failure counts".to_owned());
    }
    if spec.success_policy.is_some() {
        unsupported.push("successPolicy: all completions are needed".to_owned());
    }
    let parallelism = count(spec.parallelism, 1);
    Job {
        completions: count(spec.completions, 1),
        parallelism: if spec.suspend == Some(true) {
            0
        } else {
            parallelism
        },
        backoff_limit: count(spec.backoff_limit, 6),
        deadline: spec
            .active_deadline_seconds
            .and_then(|seconds| u64::try_from(seconds).ok()),
    }
}

fn cron_job(cron: CronJob, unsupported: &mut Vec<String>) -> (Controller, PodTemplateSpec) {
    let spec = cron.spec.unwrap_or_default();
    let job_spec = spec.job_template.spec.unwrap_or_default();
    let controller = Controller::Cron {
        schedule: spec.schedule,
        time_zone: spec.time_zone,
        concurrency: match spec.concurrency_policy.as_deref() {
            Some("Forbid") => Concurrency::Forbid,
            Some("Replace") => Concurrency::Replace,
            _ => Concurrency::Allow,
        },
        suspended: spec.suspend == Some(true),
        job: job(&job_spec, unsupported),
    };
    (controller, job_spec.template)
}
