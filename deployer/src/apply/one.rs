//! One object becomes what its manifest says.

use std::time::Duration;

use kiln_schemas::event::{Change, Event, Events, ObjectName};
use kube::Api;
use kube::api::{DynamicObject, Patch, PatchParams};
use kube::runtime::wait::await_condition;
use serde_json::Value;

use super::set::PART_OF;
use super::{
    AppliedObject, ApplySettings, Conflicts, FIELD_MANAGER, ObjectError, Validation, conflict,
    field_managers, replace, unknown_fields,
};
use crate::cluster::{Cluster, RequestError, Served};
use crate::object::Object;

/// How often an object is tried when someone else changes it at that moment.
const ATTEMPTS: usize = 5;

/// How long a Namespace or CustomResourceDefinition may take to be usable.
const USABLE: Duration = Duration::from_secs(60);

/// Applies objects of one set.
pub(super) struct Applier<'a> {
    pub cluster: &'a Cluster,
    pub set_id: &'a str,
    pub settings: &'a ApplySettings,
    pub events: &'a Events,
}

/// An object on its way to the server.
struct Delivery<'a> {
    name: ObjectName,
    group_kind: String,
    api: Api<DynamicObject>,
    params: &'a PatchParams,
    body: Value,
}

impl Applier<'_> {
    /// Applies an object, waits until it is usable if others need it, and
    /// says what happened.
    pub(super) async fn apply(
        &self,
        object: &Object,
        served: Served,
    ) -> Result<AppliedObject, ObjectError> {
        let mut object = object.clone();
        self.place(&mut object, &served);
        let params = self.params();
        let mut delivery = Delivery {
            name: object.object_name(),
            group_kind: object.group_kind(),
            api: self.cluster.api(&served, object.namespace()),
            params: &params,
            body: object.into_value(),
        };
        let (live, change) = self.deliver(&mut delivery).await?;
        let live = delivery.usable(live).await?;
        let live = delivery.object(live)?;
        self.events.emit(Event::Applied {
            object: delivery.name.clone(),
            change,
        });
        let uid = live.value()["metadata"]["uid"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        Ok(AppliedObject {
            name: delivery.name,
            served,
            change,
            uid,
            live,
        })
    }

    /// Puts the object where it belongs, into its set.
    fn place(&self, object: &mut Object, served: &Served) {
        if served.is_namespaced() {
            if object.namespace().is_none() {
                object.set_namespace(self.cluster.namespace());
            }
        } else if let Some(metadata) = object.value_mut()["metadata"].as_object_mut() {
            metadata.shift_remove("namespace");
        }
        object.set_label(PART_OF, self.set_id);
    }

    fn params(&self) -> PatchParams {
        let params = PatchParams::apply(FIELD_MANAGER);
        let params = match self.settings.conflicts {
            Conflicts::Refuse => params,
            Conflicts::TakeOver => params.force(),
        };
        match self.settings.validation {
            Validation::Strict => params.validation_strict(),
            Validation::Ignore => params.validation_ignore(),
        }
    }

    async fn deliver(&self, delivery: &mut Delivery<'_>) -> Result<(Value, Change), ObjectError> {
        let mut attempt = 1;
        loop {
            let before = self.prepare(delivery).await?;
            match delivery.send().await {
                Ok(live) => {
                    let version = |object: &Value| object["metadata"]["resourceVersion"].clone();
                    let change = match &before {
                        None => Change::Created,
                        Some(before) if version(before) == version(&live) => Change::Unchanged,
                        Some(_) => Change::Configured,
                    };
                    return Ok((live, change));
                }
                Err(error) if self.drops_unknown_fields(delivery, &error) => {}
                Err(error) => {
                    let again = error.status().is_some_and(kube::core::Status::is_conflict)
                        && attempt < ATTEMPTS;
                    match self.refused(delivery, before, error).await? {
                        Refusal::Replaced(live) => return Ok((live, Change::Replaced)),
                        Refusal::Final(_) if again => attempt += 1,
                        Refusal::Final(error) => return Err(delivery.failed(error)),
                    }
                }
            }
        }
    }

    /// Whether the refusal was for fields that the user wants dropped; then
    /// they are.
    fn drops_unknown_fields(&self, delivery: &mut Delivery<'_>, error: &RequestError) -> bool {
        let message = error.status().map_or("", |status| status.message.as_str());
        self.settings.validation == Validation::Ignore
            && unknown_fields::remove(&mut delivery.body, message)
    }

    /// Looks at what is there: it must be ours to change, not on its way out,
    /// and not in the hands of a client-side tool.
    async fn prepare(&self, delivery: &Delivery<'_>) -> Result<Option<Value>, ObjectError> {
        let Some(live) = delivery.get().await? else {
            return Ok(None);
        };
        if let Some(part_of) = live["metadata"]["labels"][PART_OF].as_str()
            && part_of != self.set_id
        {
            return Err(ObjectError::ForeignMember {
                object: delivery.name.clone(),
                part_of: part_of.to_owned(),
            });
        }
        if !live["metadata"]["deletionTimestamp"].is_null() {
            let uid = live["metadata"]["uid"].as_str().unwrap_or_default();
            let gone = replace::gone(&delivery.api, &delivery.name.name, uid).await;
            return match gone.map_err(|source| delivery.failed(source))? {
                true => Ok(None),
                false => Err(delivery.not_usable("gone", replace::GONE)),
            };
        }
        let Some(patch) = field_managers::takeover(&live) else {
            return Ok(Some(live));
        };
        let patch = serde_json::from_value(patch).map_err(kube::Error::SerdeError);
        let patch = patch.map_err(|error| delivery.failed(error.into()))?;
        let taken = delivery
            .api
            .patch(
                &delivery.name.name,
                &PatchParams::default(),
                &Patch::Json::<()>(patch),
            )
            .await
            .map_err(|error| delivery.failed(error.into()))?;
        Ok(Some(delivery.value(taken)?))
    }

    /// What to make of a refusal: fields of others are an error, immutable
    /// ones a reason to replace.
    async fn refused(
        &self,
        delivery: &Delivery<'_>,
        before: Option<Value>,
        error: RequestError,
    ) -> Result<Refusal, ObjectError> {
        let Some(status) = error.status() else {
            return Ok(Refusal::Final(error));
        };
        let fields = conflict::conflicts(status);
        if !fields.is_empty() {
            return Err(ObjectError::Conflict {
                object: delivery.name.clone(),
                fields,
            });
        }
        let fields = conflict::immutable_fields(status);
        let Some(before) = before.filter(|_| !fields.is_empty()) else {
            return Ok(Refusal::Final(error));
        };
        if !replace::may_replace(&delivery.group_kind, self.settings.replace) {
            let replaceable = replace::may_replace(&delivery.group_kind, super::Replace::Force);
            let object = delivery.name.clone();
            return Err(ObjectError::Immutable {
                object,
                fields,
                replaceable,
            });
        }
        self.events.emit(Event::Note {
            message: format!(
                "{} cannot be changed in {}: it is deleted and created again",
                delivery.name,
                fields.join(", ")
            ),
        });
        let gone = replace::delete_and_wait(&delivery.api, &delivery.name.name, &before).await;
        if !gone.map_err(|source| delivery.failed(source))? {
            return Err(delivery.not_usable("gone", replace::GONE));
        }
        delivery
            .send()
            .await
            .map(Refusal::Replaced)
            .map_err(|source| delivery.failed(source))
    }
}

enum Refusal {
    Replaced(Value),
    Final(RequestError),
}

impl Delivery<'_> {
    async fn get(&self) -> Result<Option<Value>, ObjectError> {
        let live = self
            .api
            .get_opt(&self.name.name)
            .await
            .map_err(|error| self.failed(error.into()))?;
        live.map(|live| self.value(live)).transpose()
    }

    async fn send(&self) -> Result<Value, RequestError> {
        let live = self
            .api
            .patch(&self.name.name, self.params, &Patch::Apply(&self.body))
            .await?;
        serde_json::to_value(live).map_err(|error| kube::Error::SerdeError(error).into())
    }

    /// Waits until others can use it: a Namespace is active, a definition is
    /// established.
    async fn usable(&self, live: Value) -> Result<Value, ObjectError> {
        let (wanted, is_usable): (_, fn(&Value) -> bool) = match self.group_kind.as_str() {
            "Namespace" => ("Active", |object| object["status"]["phase"] == "Active"),
            "CustomResourceDefinition.apiextensions.k8s.io" => ("Established", is_established),
            _ => return Ok(live),
        };
        if is_usable(&live) {
            return Ok(live);
        }
        let condition = |object: Option<&DynamicObject>| {
            object
                .and_then(|object| serde_json::to_value(object).ok())
                .is_some_and(|object| is_usable(&object))
        };
        let waited = await_condition(self.api.clone(), &self.name.name, condition);
        match tokio::time::timeout(USABLE, waited).await {
            Ok(Ok(Some(live))) => self.value(live),
            Ok(Ok(None) | Err(_)) | Err(_) => Err(self.not_usable(wanted, USABLE)),
        }
    }

    fn value(&self, live: DynamicObject) -> Result<Value, ObjectError> {
        let live = serde_json::to_value(live);
        let mut live = live.map_err(|error| self.failed(kube::Error::SerdeError(error).into()))?;
        // An item of a list, as a watch begins with, does not say its kind.
        for field in ["apiVersion", "kind"] {
            live[field] = self.body[field].clone();
        }
        Ok(live)
    }

    fn object(&self, live: Value) -> Result<Object, ObjectError> {
        Object::new(live).map_err(|error| {
            let error = kube::Error::Service(Box::new(error));
            self.failed(error.into())
        })
    }

    fn failed(&self, source: RequestError) -> ObjectError {
        ObjectError::Request {
            object: self.name.clone(),
            source,
        }
    }

    fn not_usable(&self, wanted: &'static str, waited: Duration) -> ObjectError {
        ObjectError::NotUsable {
            object: self.name.clone(),
            wanted,
            seconds: waited.as_secs(),
        }
    }
}

fn is_established(definition: &Value) -> bool {
    let conditions = definition["status"]["conditions"].as_array();
    conditions
        .into_iter()
        .flatten()
        .any(|c| c["type"] == "Established" && c["status"] == "True")
}
