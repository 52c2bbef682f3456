"""A mutating webhook: labels what it is asked about with `mutate: yes`. `flask --app label run --cert C --key K`."""

from __future__ import annotations

import base64

import flask
import jsonpatch

app = flask.Flask(__name__)


@app.post("/label")
def label() -> flask.Response:
    request = flask.request.get_json()["request"]
    old = request["object"]
    labels = {**old["metadata"].get("labels", {}), "mutate": "yes"}
    patch = jsonpatch.make_patch(old, {**old, "metadata": {**old["metadata"], "labels": labels}})
    return flask.jsonify(
        {
            "apiVersion": "admission.k8s.io/v1",
            "kind": "AdmissionReview",
            "response": {
                "uid": request["uid"],
                "allowed": True,
                "patchType": "JSONPatch",
                "patch": base64.b64encode(patch.to_string().encode()).decode(),
            },
        }
    )
