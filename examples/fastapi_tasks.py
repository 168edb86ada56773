"""Ask now, read later: this app's users get a task id at once. TIDEGATE=http://127.0.0.1:8080 uvicorn fastapi_tasks:app"""
import os
from typing import Annotated

import httpx
from fastapi import Body, FastAPI, Header, Path, Response
from fastapi.responses import StreamingResponse
from starlette.background import BackgroundTask

app = FastAPI()
tidegate = httpx.AsyncClient(base_url=os.environ["TIDEGATE"], timeout=90)
Task = Annotated[str, Path(pattern="^task_[0-9a-z]{26}$")]
User = Annotated[str, Header(alias="x-user")]  # from your own login; each sees their own tasks alone

@app.post("/questions", status_code=202)
async def ask(question: Annotated[str, Body(embed=True)], user: User):
    call = {"model": "gpt-4o-mini", "stream": True, "messages": [{"role": "user", "content": question}]}
    reply = await tidegate.post("/v1/chat/completions", json=call, headers={"x-agent-id": user, "prefer": "respond-async"})
    return {"task": reply.raise_for_status().json()["id"]}

@app.get("/tasks/{task}")
async def show(task: Task, user: User, wait: int = 0):
    reply = await tidegate.get(f"/-/tasks/{task}", params={"wait": wait}, headers={"x-agent-id": user})
    return Response(reply.content, reply.status_code, media_type="application/json")

@app.get("/tasks/{task}/events")
async def events(task: Task, user: User, last_event_id: Annotated[str, Header()] = "0"):
    request = tidegate.build_request("GET", f"/-/tasks/{task}/events", headers={"x-agent-id": user, "last-event-id": last_event_id})
    reply = await tidegate.send(request, stream=True)
    return StreamingResponse(reply.aiter_raw(), reply.status_code, media_type="text/event-stream", background=BackgroundTask(reply.aclose))
