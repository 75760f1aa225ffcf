"""The other process: answers with the reference engine whatever it is asked, until nobody can ask any more."""

from __future__ import annotations

import os
from typing import Any

from dots_core.engine.protocol import Network, Rates, Runtime
from dots_core.engine.registry import load_engine
from dots_core.errors import DotsError
from dots_core.search_space.mixing import Temperature
from dots_loopback.records import batch_from_arrays, layer_from_record, setup_from_record
from dots_loopback.wire import Arrays, Record, receive, send


def main() -> None:
    """Answer questions from standard input on standard output."""
    questions, answers = os.fdopen(0, "rb"), os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # nothing that prints may come between the answers
    side = FarSide()
    while True:
        try:
            record, arrays = receive(questions)
        except EOFError:
            return
        try:
            found, returned = side.answer(record, arrays)
        except DotsError as error:
            found, returned = {"error": type(error).__name__, "message": str(error)}, {}
        send(answers, found, returned)


class FarSide:
    """The reference engine and the networks built on it, by number."""

    def __init__(self) -> None:
        self.engine = load_engine("reference")
        self.networks: dict[int, Network] = {}

    def answer(self, record: Record, arrays: Arrays) -> tuple[Record, Arrays]:
        """Return a record and arrays that answer a question."""
        for number in record["forgotten"]:
            del self.networks[number]
        if "network" in record:
            return self._of_a_network(self.networks[record["network"]], record, arrays)
        return self._of_the_engine(record, arrays)

    def _of_the_engine(self, record: Record, arrays: Arrays) -> tuple[Record, Arrays]:
        verb = record["verb"]
        if verb == "versions":
            return {"versions": self.engine.versions()}, {}
        if verb == "devices":
            return {"devices": [[device.name, device.description] for device in self.engine.devices()]}, {}
        if verb == "check":
            self.engine.check(Runtime(**record["runtime"]))
            return {}, {}
        if verb == "build":
            setup = setup_from_record(record["setup"])
            network = self.engine.build(setup, _part(arrays, "weights/"), _part(arrays, "architecture/"))
            number = max(self.networks, default=-1) + 1
            self.networks[number] = network
            return {"network": number}, {}
        assert verb == "run_layers"
        sequences = tuple(tuple(layer_from_record(layer) for layer in layers) for layers in record["sequences"])
        weights, runtime = _part(arrays, "weights/"), Runtime(**record["runtime"])
        return {}, self.engine.run_layers(sequences, weights, arrays["images"], arrays["upstream"], runtime)

    def _of_a_network(self, network: Network, record: Record, arrays: Arrays) -> tuple[Record, Arrays]:
        verb = record["verb"]
        if verb == "pop_losses":
            return {}, {"rows": network.pop_losses()}
        if verb == "architecture":
            return {}, dict(network.architecture())
        if verb == "export_state":
            return {}, network.export_state()
        if verb == "import_state":
            network.import_state(arrays)
            return {}, {}
        if verb == "update":
            network.update(tuple(record["groups"]), Rates(**record["rates"]), arrays)
            return {}, {}
        if verb == "virtual_step":
            network.virtual_step(record["rate"])
            return {}, {}
        if verb == "perturb_weights":
            network.perturb_weights(record["radius"])
            return {}, {}
        if verb == "gradient_norm":
            return {"norm": network.gradient_norm()}, {}
        if verb == "restore_weights":
            network.restore_weights()
            return {}, {}
        return self._of_a_batch(network, record, arrays)

    def _of_a_batch(self, network: Network, record: Record, arrays: Arrays) -> tuple[Record, Arrays]:
        verb = record["verb"]
        batch, temperature = batch_from_arrays(arrays), Temperature(**record["temperature"])
        if verb == "step":
            network.step(tuple(record["groups"]), batch, Rates(**record["rates"]), temperature)
            return {}, {}
        if verb == "accumulate_gradients":
            network.accumulate_gradients(tuple(record["groups"]), batch, temperature, record["factor"])
            return {}, {}
        if verb == "evaluate":
            loss, correct = network.evaluate(batch, temperature)
            return {"loss": loss, "correct": correct}, {}
        assert verb == "gradients"
        return {}, network.gradients(batch, temperature, record["trace"])


def _part(arrays: Arrays, prefix: str) -> dict[str, Any]:
    return {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}
