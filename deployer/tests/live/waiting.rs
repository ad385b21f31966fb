//! Waiting until workloads are ready, and why they are not.

use kiln_deployer::{NotReady, wait_ready};
use kiln_schemas::event::Event;

use crate::harness::{Bench, in_namespace, patient};

fn deployment(name: &str, container: &str) -> String {
    format!(
        "---\napiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: {name}}}\nspec:\n  \
        selector: {{matchLabels: {{app: {name}}}}}\n  template:\n    metadata: {{labels: {{app: {name}}}}}\n    \
        spec: {{terminationGracePeriodSeconds: 0, containers: [{container}]}}\n"
    )
}

const SLEEPS: &str = "{name: app, image: busybox, command: [sleep, '1000']}";

async fn failure_of(bench: &Bench, yaml: &str) -> kiln_schemas::event::Failure {
    let applied = bench.apply(yaml).await.unwrap();
    let error = wait_ready(&bench.cluster, &applied, &patient(), &bench.events)
        .await
        .unwrap_err();
    assert!(matches!(error, NotReady::Failed { .. }), "{error:?}");
    error.failure()
}

#[test]
fn a_deployment_is_waited_for_until_its_pods_are_ready() {
    in_namespace("ready", async |bench| {
        let applied = bench.apply(&deployment("web", SLEEPS)).await.unwrap();
        let ready = wait_ready(&bench.cluster, &applied, &patient(), &bench.events)
            .await
            .unwrap();
        assert_eq!(ready.objects, 1);
        let live = bench.get("deployments", "web").await.unwrap();
        assert_eq!(live["status"]["availableReplicas"], 1);
        let said = bench.take();
        assert!(
            matches!(said.last(), Some(Event::DeployReady { objects: 1, .. })),
            "{said:?}"
        );

        // Nothing to wait for the second time.
        let applied = bench.apply(&deployment("web", SLEEPS)).await.unwrap();
        wait_ready(&bench.cluster, &applied, &patient(), &bench.events)
            .await
            .unwrap();
    });
}

#[test]
fn an_image_that_does_not_exist_fails_early_and_is_named() {
    in_namespace("no-image", async |bench| {
        let failure = failure_of(
            &bench,
            &deployment("web", "{name: app, image: 'nowhere/nothing:1'}"),
        )
        .await;
        assert_eq!(
            failure.message,
            format!("Deployment {}/web failed", bench.namespace())
        );
        assert!(
            failure.causes[0].contains("cannot pull nowhere/nothing:1"),
            "{failure:?}"
        );
    });
}

#[test]
fn a_crash_loop_fails_early_with_the_last_lines_of_the_log() {
    in_namespace("crash", async |bench| {
        let crashes = "{name: app, image: busybox, readinessProbe: {exec: {command: [cat, /ready]}}, command: [sh, -c, 'echo starting; echo no database; exit 3']}";
        let failure = failure_of(&bench, &deployment("web", crashes)).await;
        assert!(
            failure.causes[0].contains("container app exited with code 3"),
            "{failure:?}"
        );
        assert_eq!(failure.log, ["starting", "no database"]);
    });
}

#[test]
fn a_missing_secret_is_named() {
    in_namespace("no-secret", async |bench| {
        let wants = "{name: app, image: busybox, envFrom: [{secretRef: {name: absent}}]}";
        let failure = failure_of(&bench, &deployment("web", wants)).await;
        assert!(
            failure.causes[0].contains("secret \"absent\" not found"),
            "{failure:?}"
        );
    });
}

#[test]
fn a_job_is_waited_for_until_it_completes_or_fails() {
    in_namespace("job", async |bench| {
        let job = |name: &str, code: u8| {
            format!(
                "apiVersion: batch/v1\nkind: Job\nmetadata: {{name: {name}}}\nspec: {{backoffLimit: 0, template: \
                {{spec: {{restartPolicy: Never, containers: [{{name: c, image: busybox, \
                command: [sh, -c, 'echo migrating; exit {code}']}}]}}}}}}\n"
            )
        };
        let applied = bench.apply(&job("good", 0)).await.unwrap();
        wait_ready(&bench.cluster, &applied, &patient(), &bench.events)
            .await
            .unwrap();
        let failure = failure_of(&bench, &job("bad", 1)).await;
        assert!(failure.causes[0].starts_with("failed: "), "{failure:?}");
        assert_eq!(failure.log, ["migrating"]);
    });
}

#[test]
fn a_deadline_that_passes_says_what_the_scheduler_says() {
    in_namespace("late", async |bench| {
        let greedy = "{name: app, image: busybox, resources: {requests: {cpu: '4000'}}}";
        let applied = bench.apply(&deployment("web", greedy)).await.unwrap();
        let check = kiln_schemas::model::StatusCheck {
            deadline: std::time::Duration::from_secs(8),
            ..patient()
        };
        let error = wait_ready(&bench.cluster, &applied, &check, &bench.events)
            .await
            .unwrap_err();
        assert!(matches!(error, NotReady::Late { .. }), "{error:?}");
        let failure = error.failure();
        assert!(
            failure.causes[0].contains("cannot be scheduled: 0/1 nodes"),
            "{failure:?}"
        );
    });
}

#[test]
fn stateful_sets_and_daemon_sets_are_waited_for() {
    in_namespace("sets", async |bench| {
        let set = |kind: &str, more: &str| {
            format!(
                "---\napiVersion: apps/v1\nkind: {kind}\nmetadata: {{name: s}}\nspec:\n  {more}\n  \
                selector: {{matchLabels: {{app: {kind}}}}}\n  template:\n    metadata: {{labels: {{app: {kind}}}}}\n    \
                spec: {{terminationGracePeriodSeconds: 0, containers: [{SLEEPS}]}}\n"
            )
        };
        let yaml = set("StatefulSet", "serviceName: s") + &set("DaemonSet", "minReadySeconds: 0");
        let applied = bench.apply(&yaml).await.unwrap();
        wait_ready(&bench.cluster, &applied, &patient(), &bench.events)
            .await
            .unwrap();
        assert_eq!(
            bench.get("statefulsets", "s").await.unwrap()["status"]["readyReplicas"],
            1
        );
        assert_eq!(
            bench.get("daemonsets", "s").await.unwrap()["status"]["numberReady"],
            1
        );
    });
}
