"""The hello function in Python: a class with the handler's one method.

Kind:  wasi:http 0.2 component (the CPython interpreter inside).
Build: componentize-py -d wit -w http componentize -p hello app -o python-hello.wasm
"""

from componentize_py_types import Ok
from wit_world.exports import IncomingHandler as Base
from wit_world.imports.types import (
    Fields,
    IncomingRequest,
    OutgoingBody,
    OutgoingResponse,
    ResponseOutparam,
)


class IncomingHandler(Base):
    def handle(self, request: IncomingRequest, response_out: ResponseOutparam) -> None:
        response = OutgoingResponse(Fields.from_list([("content-type", b"text/plain")]))
        body = response.body()
        ResponseOutparam.set(response_out, Ok(response))

        # A body can only be finished once its stream is gone.
        with body.write() as stream:
            stream.blocking_write_and_flush(b"hello from python\n")
        OutgoingBody.finish(body, None)
