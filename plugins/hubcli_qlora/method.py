"""QLoRA: LoRA's delta on a base whose linear modules are quantised; the base's 4-bit weights never change."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from hubcli_lora.method import Lora

from hubcli.errors import UnsupportedError

if TYPE_CHECKING:
    from hubcli.families import Structure


class Qlora(Lora):
    """The method `qlora`."""

    name: ClassVar[str] = "qlora"
    quantize: ClassVar[str | None] = "nf4"
    formats: ClassVar[Mapping[str, Mapping[str, str]]] = {"peft": Lora.formats["peft"]}

    def defaults(self, structure: Structure, config: Mapping[str, Any]) -> dict[str, Any]:
        """LoRA's defaults; a fresh adapter needs a quantised base, while a file runs on any (as a LoRA).

        Raises:
            UnsupportedError: the base is in full precision.
        """
        if structure.quantisation is None:
            raise UnsupportedError(
                f"{self.name}: expected a quantised base, found this {structure.base_class} in full precision",
                hint="""load the base with quantize="nf4", or add a "lora" """.strip(),
            )
        return super().defaults(structure, config)
