//! Options of opening, and settings that are persisted with the cache.

use crate::base::CacheBase;
use crate::cache::{Durability, Options, ProfileOverride, Setting};
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyFloat, PyInt, PyString};
use std::time::Duration;

/// What `Cache.__init__` was given, as a dict.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
pub(crate) struct OpenArguments {
    timeout: f64,
    durability: String,
    max_staleness: Option<f64>,
    profile: Option<String>,
    read_only: bool,
    settings: Vec<(String, SettingArgument)>,
}

impl OpenArguments {
    /// Returns them as the engine takes them.
    pub(crate) fn options(&self) -> PyResult<Options> {
        let durability = match self.durability.as_str() {
            "process" => Durability::Process,
            "host" => Durability::Host,
            other => return Err(PyValueError::new_err(format!("durability must be 'process' or 'host', not {other:?}"))),
        };
        let profile = match self.profile.as_deref() {
            None => None,
            Some("local") => Some(ProfileOverride::Local),
            Some("shared") => Some(ProfileOverride::Shared),
            Some(other) => return Err(PyValueError::new_err(format!("profile must be 'local' or 'shared', not {other:?}"))),
        };
        Ok(Options {
            timeout: seconds("timeout", self.timeout)?,
            durability,
            max_staleness: self.max_staleness.map(|value| seconds("max_staleness", value)).transpose()?,
            profile,
            read_only: self.read_only,
            settings: self.settings.iter().map(|(name, value)| (name.clone(), value.0.clone())).collect(),
            ..Options::default()
        })
    }
}

fn seconds(name: &str, value: f64) -> PyResult<Duration> {
    // A year stands for "for ever", so that no deadline overflows.
    const FOREVER: f64 = 365.0 * 86_400.0;
    if value.is_nan() || value < 0.0 {
        return Err(PyValueError::new_err(format!("{name} must be a number of seconds, not {value}")));
    }
    Ok(Duration::from_secs_f64(value.min(FOREVER)))
}

/// The value of a setting.
#[derive(Clone)]
pub(crate) struct SettingArgument(pub(crate) Setting);

impl<'py> FromPyObject<'_, 'py> for SettingArgument {
    type Error = PyErr;

    fn extract(object: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        if object.is_none() {
            return Ok(Self(Setting::Null));
        }
        // True and False too: they are 1 and 0, as in python-diskcache's database.
        if object.is_instance_of::<PyInt>() {
            return Ok(Self(Setting::Int(object.extract()?)));
        }
        if object.is_instance_of::<PyFloat>() {
            return Ok(Self(Setting::Float(object.extract()?)));
        }
        if let Ok(text) = object.cast::<PyString>() {
            return Ok(Self(Setting::Text(text.to_str()?.to_owned())));
        }
        if let Ok(bytes) = object.cast::<PyBytes>() {
            return Ok(Self(Setting::Bytes(bytes.as_bytes().to_vec())));
        }
        Err(PyTypeError::new_err(format!("a setting must be None, int, float, str or bytes, not {}", object.get_type().name()?)))
    }
}

fn object<'py>(py: Python<'py>, setting: Setting) -> PyResult<Bound<'py, PyAny>> {
    Ok(match setting {
        Setting::Null => py.None().into_bound(py),
        Setting::Bool(value) => i64::from(value).into_pyobject(py)?.into_any(),
        Setting::Int(value) => value.into_pyobject(py)?.into_any(),
        Setting::Float(value) => PyFloat::new(py, value).into_any(),
        Setting::Text(value) => PyString::new(py, &value).into_any(),
        Setting::Bytes(value) => PyBytes::new(py, &value).into_any(),
    })
}

/// Returns one persisted setting.
pub(crate) fn one<'py>(cache: &CacheBase, py: Python<'py>, name: &str) -> PyResult<Option<Bound<'py, PyAny>>> {
    cache.call(py, true, |engine| engine.setting(name))?.map(|setting| object(py, setting)).transpose()
}

/// Returns all persisted settings.
pub(crate) fn all<'py>(cache: &CacheBase, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(py);
    for (name, setting) in cache.call(py, true, |engine| engine.settings())? {
        dict.set_item(name, object(py, setting)?)?;
    }
    Ok(dict)
}
