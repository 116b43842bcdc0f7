package main

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/chainstore/chainstore/cmd/chainstore/internal/clitest"
	"github.com/chainstore/chainstore/wire"
)

const sampleText = `leader   http://127.0.0.1:8000  term 7
height   12 blocks  head 0000abcdef000000
records  34567 (the tree has 34579 leaves)
stored   11 blocks on 2 storage nodes or more
signed   31744 leaves, a checkpoint of 32001 waits for witnesses
buffer   1 record, 300 B
pending  1 block, 5.0 MiB with the buffer
retries  1200 keys remembered, the oldest for 9m58s

MASTER            URL                    RAFT            STATE
aaaabbbbccccdddd  http://127.0.0.1:8000  127.0.0.1:8010  leader
eeeeffffgggghhhh  http://127.0.0.1:8001  127.0.0.1:8011  follower
iiiijjjjkkkkllll  -                      127.0.0.1:8012  unreachable

STORAGE         URL                    STATE    HEIGHT  LAG  LIVE
s-aaaabbbbcccc  http://127.0.0.1:8082  valid    12      0    yes
s-ddddeeeeffff  http://127.0.0.1:8083  invalid  3       9    no

MINER           URL                    LIVE
m-aaaabbbbcccc  http://127.0.0.1:8079  yes

! storage node s-ddddeeeeffff is invalid: behind what the masters hold, it is
  repaired from another node
`

func TestStatus(t *testing.T) {
	f := clitest.NewCluster(t)
	f.Use(t)
	out, _, err := run(t, nil, "status")
	if err != nil || out != sampleText {
		t.Errorf("got\n%s\n%v; want\n%s", out, err, sampleText)
	}
	out, _, err = run(t, nil, "status", "--json")
	var c wire.Cluster
	if err != nil || json.Unmarshal([]byte(out), &c) != nil || c.Head.Size != 34579 || strings.Count(out, "\n") != 1 {
		t.Errorf("--json: %q, %v", out, err)
	}
}
