"""The nearest neighbours of k-NN evaluation in PyTorch, as DINO's eval_knn.py finds them: a product and a top-k, queries in chunks."""
import argparse
import json
import resource
import sys
import time

import torch
import torch.nn.functional as F

parser = argparse.ArgumentParser()
parser.add_argument("--threads", type=int, default=0)
parser.add_argument("--bank", type=int, default=50_000)
parser.add_argument("--queries", type=int, default=10_000)
parser.add_argument("--width", type=int, default=384)
parser.add_argument("--k", type=int, default=200)
parser.add_argument("--chunk", type=int, default=0, help="queries at a time; 0: the fastest of some")
given = parser.parse_args()
if given.threads:
    torch.set_num_threads(given.threads)
torch.manual_seed(0)
bank, queries = torch.randn(given.bank, given.width), torch.randn(given.queries, given.width)


@torch.inference_mode()
def run(chunk):
    columns = F.normalize(bank, dim=1).T.contiguous()
    rows = F.normalize(queries, dim=1)
    return [(each @ columns).topk(given.k, dim=1, largest=True, sorted=True) for each in rows.split(chunk)]


def timed(chunk):
    start, busy = time.perf_counter(), time.process_time()
    run(chunk)
    return time.perf_counter() - start, time.process_time() - busy


chunk = given.chunk or min((100, 256, 1000), key=lambda size: timed(size)[1])
say = lambda value: print(json.dumps(value), flush=True)
rss = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
flops = 2 * given.bank * given.queries * given.width
say({"flops": flops, "torch": torch.__version__, "chunk": chunk, "memory": {"rss": rss, "rssBefore": 0}})
for line in sys.stdin:
    times = [timed(chunk) for _ in range(int(line))]
    say({"wall": [wall for wall, _ in times], "cpu": [cpu for _, cpu in times]})
