package e2e

import (
	"bytes"
	"cmp"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/chainstore/chainstore/client"
	"github.com/chainstore/chainstore/internal/devcluster"
	"github.com/chainstore/chainstore/wire"
)

// lineType is the media type that `chainstore append --lines` gives to a record.
const lineType = "text/plain; charset=utf-8"

// TestRealInput appends log files line by line: through each master in turn, and with `chainstore append --lines`, with
// the line ends stripped and kept. One file has CRLF line ends, the other LF. Both have UTF-8 text and empty lines, and
// one has no line end at its end.
func TestRealInput(t *testing.T) {
	files, err := filepath.Glob(filepath.Join("testdata", "*.log"))
	if err != nil || len(files) != 2 {
		t.Fatalf("testdata holds %q: %v", files, err)
	}
	if dir := settings.input; dir != "" {
		more, err := filepath.Glob(filepath.Join(dir, "*.log"))
		if err != nil || len(more) == 0 {
			t.Fatalf("CHAINSTORE_E2E_INPUT: %s holds no *.log: %v", dir, err)
		}
		files = append(files, more...)
	}
	c, o := start(t), newOracle()
	for _, path := range files {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		lines := linesOf(data)
		t.Logf("%s: %d bytes, %d lines", path, len(data), len(lines))
		c.appendInTurn(o, lines)

		out := c.command(nil, "append", "--lines", "--json", "--cluster", c.clusterFile(), path)
		o.ackLines(t, lines, out)

		kept := bytes.SplitAfter(data, []byte("\n"))
		if len(kept[len(kept)-1]) == 0 {
			kept = kept[:len(kept)-1]
		}
		out = c.command(data, "append", "--lines", "--keep-newlines", "--json", "--cluster", c.clusterFile(), "-")
		c.compareWhole(data, o.ackLines(t, kept, out))
	}
	folders := c.File().Storages
	c.verify(o)
	first := ""
	for _, s := range folders {
		out := string(c.command(nil, "verify", "--data", s.Data))
		if !strings.HasSuffix(out, "\nchain valid\n") || first != "" && out != first {
			t.Errorf("chainstore verify --data %s printed %q, of another folder %q", s.Data, out, first)
		}
		first = out
	}
}

// linesOf splits a file into lines as `chainstore append --help` specifies: the line feed is not part of the record,
// nor is one carriage return directly before it. Lines that are then empty are skipped.
func linesOf(data []byte) [][]byte {
	var lines [][]byte
	for len(data) > 0 {
		line, rest, ended := bytes.Cut(data, []byte("\n"))
		if ended {
			line = bytes.TrimSuffix(line, []byte("\r"))
		}
		if len(line) > 0 {
			lines = append(lines, line)
		}
		data = rest
	}
	return lines
}

// appendInTurn appends lines one by one, each through the next master. The chain has the lines in the same order.
func (c *cluster) appendInTurn(o *oracle, lines [][]byte) {
	c.t.Helper()
	var last wire.Position
	for i, line := range lines {
		e := client.Entry{Payload: line, Type: lineType}
		at, err := c.masters[i%len(c.masters)].Append(c.t.Context(), e)
		if err != nil {
			c.t.Fatalf("line %d: %v", i, err)
		}
		if i > 0 && at.Index <= last.Index {
			c.t.Fatalf("line %d stands at %+v, the one before it at %+v", i, at, last)
		}
		o.ack([]client.Entry{e}, []wire.Position{at})
		last = at
	}
}

// ackLines records the positions that `chainstore append --lines --json` printed. The chain has the lines in the same
// order.
func (o *oracle) ackLines(t *testing.T, lines [][]byte, out []byte) []wire.Position {
	t.Helper()
	var positions []wire.Position
	for d := json.NewDecoder(bytes.NewReader(out)); d.More(); {
		var at wire.Position
		if err := d.Decode(&at); err != nil {
			t.Fatal(err)
		}
		if n := len(positions); n > 0 && at.Index <= positions[n-1].Index {
			t.Fatalf("line %d stands at %+v, the one before it at %+v", n, at, positions[n-1])
		}
		positions = append(positions, at)
	}
	if len(positions) != len(lines) {
		t.Fatalf("%d positions for %d lines", len(positions), len(lines))
	}
	for i, line := range lines {
		o.ack([]client.Entry{{Payload: line, Type: lineType}}, positions[i:i+1])
	}
	return positions
}

// compareWhole reads records back through each master in turn, and compares their concatenation with the original data.
func (c *cluster) compareWhole(data []byte, positions []wire.Position) {
	c.t.Helper()
	var got []byte
	for i, at := range positions {
		r, err := c.masters[i%len(c.masters)].Get(c.t.Context(), at.Block, at.Offset)
		if err != nil {
			c.t.Fatal(err)
		}
		got = append(got, r.Payload...)
	}
	if !bytes.Equal(got, data) {
		c.t.Errorf("the lines with their ends do not make up the file: %d bytes of %d", len(got), len(data))
	}
}

func (c *cluster) clusterFile() string { return devcluster.ClusterFilePath(c.dir) }

// command runs a command of the chainstore executable, which must succeed, and returns its output.
func (c *cluster) command(input []byte, args ...string) []byte {
	c.t.Helper()
	return c.commandAt("", input, args...)
}

// commandAt is like command, but runs at the network location of a role; "" means that of the test.
func (c *cluster) commandAt(role string, input []byte, args ...string) []byte {
	c.t.Helper()
	line := append([]string{cmp.Or(c.program, binary)}, args...)
	if role != "" {
		line = append(slices.Clone(roleOf(c.Topology(), role).Enter), line...)
	}
	cmd := exec.CommandContext(c.t.Context(), line[0], line[1:]...)
	cmd.Stdin = bytes.NewReader(input)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		c.t.Fatalf("chainstore %s: %v: %s", strings.Join(args, " "), err, errs.String())
	}
	for _, token := range c.tokens(nil) {
		if bytes.Contains(append(errs.Bytes(), out.Bytes()...), []byte(token)) {
			c.t.Errorf("chainstore %s printed a token", args[0])
		}
	}
	return out.Bytes()
}
