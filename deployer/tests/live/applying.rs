//! Applying, pruning, taking over, replacing, refusing, deleting.

use kiln_deployer::apply::{
    ApplyError, ApplySettings, Conflicts, ObjectError, Prune, SetError, SetName, Validation,
};
use kiln_deployer::{DeleteError, DeleteSettings, apply, delete};
use kube::api::{Patch, PatchParams};
use serde_json::json;

use crate::harness::{Bench, in_namespace, objects, patient};

fn config_map(name: &str, value: &str) -> String {
    format!(
        "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}}}\ndata: {{key: '{value}'}}\n"
    )
}

async fn client_side(bench: &Bench, manager: &str, object: &serde_json::Value) {
    let served = bench
        .cluster
        .find_by_word("configmaps")
        .await
        .unwrap()
        .unwrap();
    let api = bench.cluster.api(&served, None);
    let params = kube::api::PostParams {
        field_manager: Some(manager.into()),
        ..Default::default()
    };
    api.create(&params, &serde_json::from_value(object.clone()).unwrap())
        .await
        .unwrap();
}

#[test]
fn what_is_new_changed_unchanged_or_gone_is_said() {
    in_namespace("changes", async |bench| {
        bench
            .apply(&(config_map("a", "1") + &config_map("b", "1")))
            .await
            .unwrap();
        assert_eq!(
            bench.changes(),
            ["ConfigMap/a created", "ConfigMap/b created"]
        );

        bench
            .apply(&(config_map("a", "1") + &config_map("b", "2")))
            .await
            .unwrap();
        assert_eq!(
            bench.changes(),
            ["ConfigMap/a unchanged", "ConfigMap/b configured"]
        );

        bench.apply(&config_map("a", "1")).await.unwrap();
        assert_eq!(
            bench.changes(),
            ["ConfigMap/a unchanged", "ConfigMap/b pruned"]
        );
        assert!(bench.get("configmaps", "b").await.is_none());
    });
}

#[test]
fn the_set_follows_the_applyset_convention() {
    in_namespace("convention", async |bench| {
        let applied = bench.apply(&config_map("a", "1")).await.unwrap();
        let parent = bench.get("configmaps", "kiln.shop.web").await.unwrap();
        let metadata = &parent["metadata"];
        assert_eq!(
            metadata["labels"]["applyset.kubernetes.io/id"],
            applied.set_id
        );
        assert_eq!(
            metadata["annotations"]["applyset.kubernetes.io/contains-group-kinds"],
            "ConfigMap"
        );
        let tooling = metadata["annotations"]["applyset.kubernetes.io/tooling"]
            .as_str()
            .unwrap();
        assert!(tooling.starts_with("kiln/v"), "{tooling}");
        let member = bench.get("configmaps", "a").await.unwrap();
        assert_eq!(
            member["metadata"]["labels"]["applyset.kubernetes.io/part-of"],
            applied.set_id
        );
    });
}

#[test]
fn a_volume_claim_is_kept_until_the_user_says_otherwise() {
    in_namespace("keep", async |bench| {
        let claim = "apiVersion: v1\nkind: PersistentVolumeClaim\nmetadata: {name: data}\nspec:\n  \
            accessModes: [ReadWriteOnce]\n  resources: {requests: {storage: 1Mi}}\n";
        bench.apply(claim).await.unwrap();
        bench.changes();
        bench.apply(&config_map("a", "1")).await.unwrap();
        assert_eq!(
            bench.changes(),
            ["ConfigMap/a created", "PersistentVolumeClaim/data kept"]
        );

        let everything = ApplySettings {
            prune: Prune::Everything,
            ..ApplySettings::default()
        };
        bench
            .apply_with(&config_map("a", "1"), &everything)
            .await
            .unwrap();
        assert_eq!(
            bench.changes(),
            ["ConfigMap/a unchanged", "PersistentVolumeClaim/data pruned"]
        );
    });
}

#[test]
fn a_set_or_member_of_another_project_is_refused() {
    in_namespace("foreign", async |bench| {
        bench.apply(&config_map("a", "1")).await.unwrap();
        let other = |project: &str| SetName {
            project: project.into(),
            ..bench.set()
        };
        let apply_as = async |set: SetName| {
            let settings = ApplySettings::default();
            apply(
                &bench.cluster,
                &objects(&config_map("a", "1")),
                &set,
                &settings,
                &bench.events,
            )
            .await
        };
        // `SHOP` and `shop` share a parent's name but not a set.
        let error = apply_as(other("SHOP")).await.unwrap_err();
        assert!(
            matches!(error, ApplyError::Set(SetError::OtherProject { .. })),
            "{error:?}"
        );
        let error = apply_as(other("rival")).await.unwrap_err();
        let ApplyError::Objects(errors) = &error else {
            panic!("{error:?}")
        };
        assert!(
            matches!(&errors[..], [ObjectError::ForeignMember { .. }]),
            "{error:?}"
        );
    });
}

#[test]
fn what_kubectl_and_skaffold_applied_is_taken_over() {
    in_namespace("takeover", async |bench| {
        client_side(
            &bench,
            "kubectl-client-side-apply",
            &json!({"apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"name": "a", "labels": {"skaffold.dev/run-id": "x"},
                "annotations": {"kubectl.kubernetes.io/last-applied-configuration": "{}"}},
            "data": {"key": "1", "old": "2"}}),
        )
        .await;
        bench.apply(&config_map("a", "1")).await.unwrap();
        let live = bench.get("configmaps", "a").await.unwrap();
        // Fields that are no longer in the manifest went with their owner.
        assert_eq!(live["data"], json!({"key": "1"}));
        assert!(live["metadata"]["labels"]["skaffold.dev/run-id"].is_null());
        assert!(live["metadata"]["annotations"].is_null());
        let managers = live["metadata"]["managedFields"].as_array().unwrap();
        assert_eq!(managers.len(), 1);
        assert_eq!(managers[0]["manager"], "kiln");
    });
}

#[test]
fn a_field_that_someone_else_manages_is_shown_and_can_be_taken() {
    in_namespace("conflict", async |bench| {
        bench.apply(&config_map("a", "1")).await.unwrap();
        let served = bench
            .cluster
            .find_by_word("configmaps")
            .await
            .unwrap()
            .unwrap();
        let edit = json!({"apiVersion": "v1", "kind": "ConfigMap", "data": {"key": "edited"}});
        let params = PatchParams::apply("someone").force();
        bench
            .cluster
            .api(&served, None)
            .patch("a", &params, &Patch::Apply(&edit))
            .await
            .unwrap();

        let error = bench.apply(&config_map("a", "2")).await.unwrap_err();
        let failure = error.failure();
        assert!(
            failure.message.ends_with("has fields that others manage"),
            "{}",
            failure.message
        );
        assert_eq!(failure.causes, [".data.key is managed by \"someone\""]);

        let take = ApplySettings {
            conflicts: Conflicts::TakeOver,
            ..ApplySettings::default()
        };
        bench
            .apply_with(&config_map("a", "2"), &take)
            .await
            .unwrap();
        assert_eq!(
            bench.get("configmaps", "a").await.unwrap()["data"]["key"],
            "2"
        );
    });
}

#[test]
fn a_changed_job_is_replaced_and_that_is_said() {
    in_namespace("replace", async |bench| {
        let job = |word: &str| {
            format!(
                "apiVersion: batch/v1\nkind: Job\nmetadata: {{name: m}}\nspec: {{template: {{spec: {{\
                restartPolicy: Never, containers: [{{name: c, image: busybox, command: [echo, {word}]}}]}}}}}}"
            )
        };
        bench.apply(&job("one")).await.unwrap();
        bench.changes();
        bench.apply(&job("two")).await.unwrap();
        let said = bench.take();
        assert!(said.iter().any(|event| matches!(event,
            kiln_schemas::event::Event::Note { message } if message.contains("spec.template"))));
        assert!(said.iter().any(|event| matches!(
            event,
            kiln_schemas::event::Event::Applied {
                change: kiln_schemas::event::Change::Replaced,
                ..
            }
        )));
        let live = bench.get("jobs", "m").await.unwrap();
        assert_eq!(
            live["spec"]["template"]["spec"]["containers"][0]["command"],
            json!(["echo", "two"])
        );
    });
}

#[test]
fn a_deployment_whose_selector_changed_is_replaced() {
    in_namespace("selector", async |bench| {
        let deployment = |label: &str| {
            format!(
                "apiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: d}}\nspec: {{replicas: 0, selector: \
                {{matchLabels: {{app: {label}}}}}, template: {{metadata: {{labels: {{app: {label}}}}}, \
                spec: {{containers: [{{name: c, image: busybox}}]}}}}}}\n"
            )
        };
        bench.apply(&deployment("one")).await.unwrap();
        bench.changes();
        bench.apply(&deployment("two")).await.unwrap();
        assert_eq!(bench.changes(), ["Deployment/d replaced"]);
        let live = bench.get("deployments", "d").await.unwrap();
        assert_eq!(live["spec"]["selector"]["matchLabels"]["app"], "two");
    });
}

#[test]
fn an_immutable_field_of_what_holds_data_is_an_error() {
    in_namespace("immutable", async |bench| {
        let claim = |mode: &str| {
            format!(
                "apiVersion: v1\nkind: PersistentVolumeClaim\nmetadata: {{name: data}}\nspec:\n  \
                accessModes: [{mode}]\n  resources: {{requests: {{storage: 1Mi}}}}\n"
            )
        };
        bench.apply(&claim("ReadWriteOnce")).await.unwrap();
        let error = bench.apply(&claim("ReadWriteMany")).await.unwrap_err();
        let ApplyError::Objects(errors) = &error else {
            panic!("{error:?}")
        };
        assert!(
            matches!(
                &errors[..],
                [ObjectError::Immutable {
                    replaceable: false,
                    ..
                }]
            ),
            "{error:?}"
        );
        let live = bench.get("persistentvolumeclaims", "data").await.unwrap();
        assert_eq!(live["spec"]["accessModes"], json!(["ReadWriteOnce"]));
    });
}

#[test]
fn an_object_that_is_still_going_is_waited_for_and_comes_back() {
    in_namespace("terminating", async |bench| {
        // The shell ignores the signal, so the pod takes its grace period to go.
        let pod = "apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec: {terminationGracePeriodSeconds: 3, \
            containers: [{name: c, image: busybox, command: [sh, -c, 'trap : TERM; while :; do sleep 1; done']}]}\n";
        let first = bench.apply(pod).await.unwrap();
        kiln_deployer::wait_ready(&bench.cluster, &first, &patient(), &bench.events)
            .await
            .unwrap();
        let settings = DeleteSettings::default();
        delete(&bench.cluster, &bench.set(), &[], &settings, &bench.events)
            .await
            .unwrap();
        bench.changes();
        let second = bench.apply(pod).await.unwrap();
        assert_eq!(bench.changes(), ["Pod/p created"]);
        assert_ne!(first.objects[0].uid, second.objects[0].uid);
        assert!(bench.get("pods", "p").await.is_some());
    });
}

#[test]
fn a_namespace_among_the_manifests_comes_before_what_lives_in_it() {
    in_namespace("home", async |bench| {
        let home = format!("{}-inner", bench.namespace());
        let yaml = format!(
            "{}---\napiVersion: v1\nkind: Namespace\nmetadata: {{name: {home}}}\n",
            config_map("a", "1")
        );
        let cluster = bench.cluster.with_namespace(home.as_str());
        let set = SetName {
            namespace: home.clone(),
            ..bench.set()
        };
        let settings = ApplySettings::default();
        let applied = apply(&cluster, &objects(&yaml), &set, &settings, &bench.events)
            .await
            .unwrap();
        assert_eq!(
            applied.objects[0].name.namespace.as_deref(),
            Some(home.as_str())
        );

        // Without being told to, deleting leaves the namespace.
        bench.changes();
        delete(
            &cluster,
            &set,
            &[],
            &DeleteSettings::default(),
            &bench.events,
        )
        .await
        .unwrap();
        assert_eq!(
            bench.changes(),
            [
                "ConfigMap/a deleted",
                format!("Namespace/{home} kept").as_str()
            ]
        );
        let everything = DeleteSettings {
            reach: Prune::Everything,
            ..DeleteSettings::default()
        };
        delete(&cluster, &set, &[], &everything, &bench.events)
            .await
            .unwrap();
        assert_eq!(bench.changes(), [format!("Namespace/{home} deleted")]);
    });
}

#[test]
fn definitions_come_before_what_they_define() {
    in_namespace("definitions", async |bench| {
        let group = format!("{}.example.com", bench.namespace());
        let yaml = format!(
            "apiVersion: {group}/v1\nkind: Widget\nmetadata: {{name: w}}\nspec: {{size: 3}}\n---\n\
            apiVersion: apiextensions.k8s.io/v1\nkind: CustomResourceDefinition\n\
            metadata: {{name: widgets.{group}}}\nspec:\n  group: {group}\n  scope: Namespaced\n  \
            names: {{kind: Widget, plural: widgets}}\n  versions: [{{name: v1, served: true, storage: true, \
            schema: {{openAPIV3Schema: {{type: object, x-kubernetes-preserve-unknown-fields: true}}}}}}]\n"
        );
        bench.apply(&yaml).await.unwrap();
        assert_eq!(
            bench.get(&format!("widgets.{group}"), "w").await.unwrap()["spec"]["size"],
            3
        );
        // It is cluster-scoped, so the test takes it away itself.
        let everything = DeleteSettings {
            reach: Prune::Everything,
            ..DeleteSettings::default()
        };
        delete(
            &bench.cluster,
            &bench.set(),
            &[],
            &everything,
            &bench.events,
        )
        .await
        .unwrap();
        assert!(
            bench
                .get("customresourcedefinitions", &format!("widgets.{group}"))
                .await
                .is_none()
        );
    });
}

#[test]
fn a_missing_right_prints_the_smallest_role() {
    in_namespace("rights", async |bench| {
        let viewer = bench.as_user_of("kiln-test-viewer").await;
        let settings = ApplySettings::default();
        let error = apply(
            &viewer,
            &objects(&config_map("a", "1")),
            &bench.set(),
            &settings,
            &bench.events,
        )
        .await
        .unwrap_err();
        let ApplyError::Forbidden { role, .. } = &error else {
            panic!("{error:?}")
        };
        // The viewer may read, so reading is not in the Role.
        let expected = format!(
            "apiVersion: rbac.authorization.k8s.io/v1\nkind: Role\nmetadata:\n  name: kiln-deploy\n  \
            namespace: {}\nrules:\n- apiGroups: [\"\"]\n  resources: [configmaps]\n  \
            verbs: [create, delete, patch]\n",
            bench.namespace()
        );
        assert_eq!(*role, expected);

        bench.apply(&config_map("a", "1")).await.unwrap();
        let settings = DeleteSettings::default();
        let error = delete(&viewer, &bench.set(), &[], &settings, &bench.events)
            .await
            .unwrap_err();
        let DeleteError::Forbidden { missing, .. } = &error else {
            panic!("{error:?}")
        };
        let place = format!("in namespace {}", bench.namespace());
        assert_eq!(
            *missing,
            [
                format!("delete configmaps {place}"),
                format!("patch configmaps {place}")
            ]
        );
    });
}

#[test]
fn a_kind_that_is_not_served_and_an_unknown_field_are_named() {
    in_namespace("unknown", async |bench| {
        let error = bench
            .apply("apiVersion: nowhere.example.com/v1\nkind: Thing\nmetadata: {name: t}\n")
            .await;
        let failure = error.unwrap_err().failure();
        assert!(
            failure
                .message
                .contains("does not serve nowhere.example.com/v1 Thing"),
            "{}",
            failure.message
        );
        let typo = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: t}\ndatta: {a: b}\n";
        let failure = bench.apply(typo).await.unwrap_err().failure();
        assert!(
            failure.causes.iter().any(|cause| cause.contains("datta")),
            "{failure:?}"
        );
        let ignore = ApplySettings {
            validation: Validation::Ignore,
            ..ApplySettings::default()
        };
        bench.apply_with(typo, &ignore).await.unwrap();
        assert!(bench.get("configmaps", "t").await.unwrap()["datta"].is_null());
    });
}

#[test]
fn deleting_takes_down_the_set_and_what_an_older_tool_left() {
    in_namespace("delete", async |bench| {
        bench.apply(&config_map("a", "1")).await.unwrap();
        client_side(
            &bench,
            "kubectl-client-side-apply",
            &json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "stray"}}),
        )
        .await;
        bench.changes();
        let settings = DeleteSettings {
            wait: Some(std::time::Duration::from_secs(120)),
            ..Default::default()
        };
        let rendered = objects(&config_map("stray", "1"));
        delete(
            &bench.cluster,
            &bench.set(),
            &rendered,
            &settings,
            &bench.events,
        )
        .await
        .unwrap();
        assert_eq!(
            bench.changes(),
            ["ConfigMap/a deleted", "ConfigMap/stray deleted"]
        );
        for name in ["a", "stray", "kiln.shop.web"] {
            assert!(bench.get("configmaps", name).await.is_none(), "{name}");
        }
    });
}
