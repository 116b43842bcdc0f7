package main

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/chainstore/chainstore/cmd/chainstore/internal/render"
	"github.com/chainstore/chainstore/wire"
)

// newStatusCommand shows the cluster.
func newStatusCommand() *cobra.Command {
	var asJSON, watch bool
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show the cluster: leader, chain, masters, storage nodes, miners",
		Long: `Show the cluster as its leader sees it, through any master that answers: the chain's head, what waits
to be mined and stored,
the nodes and their states, and what needs attention.

With --watch it goes on once a second until Ctrl-C: on a terminal it redraws, elsewhere it prints a status whenever
one differs
from the last.`,
		Args:              cobra.NoArgs,
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	connect := addConnection(cmd, asAny)
	addJSON(cmd, &asJSON, "print the status as one JSON object on a line")
	cmd.Flags().BoolVarP(&watch, "watch", "w", false, "go on showing it, once a second")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		// One round through the masters: whoever looks wants to know now that none answers.
		c, err := connect.open(-1)
		if err != nil {
			return err
		}
		defer c.CloseIdle()
		out := cmd.OutOrStdout()
		print, between := printStatus, "\n"
		if asJSON {
			between = ""
			print = func(w io.Writer, c *wire.Cluster) error { return render.JSON(w, c) }
		}
		if !watch {
			status, err := c.Cluster(cmd.Context())
			if err != nil {
				return err
			}
			return print(out, &status)
		}
		tick := time.NewTicker(time.Second)
		defer tick.Stop()
		w := &watcher{
			fetch: c.Cluster, print: print, ticks: tick.C,
			out: out, errs: cmd.ErrOrStderr(), redraw: render.IsTerminal(out) && !asJSON, width: render.Width(out),
			between: between,
		}
		return w.run(cmd.Context())
	}
	return cmd
}

// printStatus prints the table, for people.
func printStatus(w io.Writer, c *wire.Cluster) error {
	_, err := io.WriteString(w, statusText(c, render.Width(w)))
	return err
}

// statusText is the table; no line is wider than width, which is at least [standardWidth].
func statusText(c *wire.Cluster, width int) string {
	var b strings.Builder
	writeHead(&b, c, width)
	known := livenessKnown(c)
	writeNodes(&b, width, []int{1, 2}, []string{"MASTER", "URL", "RAFT", "STATE"}, len(c.Masters),
		func(i int) []string {
			m := &c.Masters[i]
			return []string{m.ID, render.OrDash(m.URL), render.OrDash(m.Raft), masterText(*m)}
		})
	writeNodes(&b, width, []int{1}, []string{"STORAGE", "URL", "STATE", "HEIGHT", "LAG", "LIVE"}, len(c.Storages),
		func(i int) []string {
			s := &c.Storages[i]
			lag := uint64(0)
			if s.Height < c.Head.Height {
				lag = c.Head.Height - s.Height
			}
			return []string{s.ID, s.URL, s.State, strconv.FormatUint(s.Height, 10), strconv.FormatUint(lag, 10),
				liveText(s.Live, known)}
		})
	writeNodes(&b, width, []int{1}, []string{"MINER", "URL", "LIVE"}, len(c.Miners), func(i int) []string {
		m := &c.Miners[i]
		return []string{m.ID, m.URL, liveText(m.Live, known)}
	})
	if len(c.Notices) > 0 {
		b.WriteByte('\n')
	}
	for _, notice := range c.Notices {
		for i, line := range render.Wrap(render.Plain(notice), width-2) {
			mark := "! "
			if i > 0 {
				mark = "  "
			}
			b.WriteString(mark + line + "\n")
		}
	}
	return b.String()
}

// writeHead writes what is true of the cluster as a whole.
func writeHead(b *strings.Builder, c *wire.Cluster, width int) {
	leader := "none known"
	if c.Leader != "" {
		leader = render.Elide(render.Plain(c.Leader), render.MaxID)
		for i := range c.Masters {
			if c.Masters[i].ID == c.Leader && c.Masters[i].URL != "" {
				leader = render.Elide(render.Plain(c.Masters[i].URL), width-30)
			}
		}
	}
	// Each block adds a leaf for each record and its seal.
	records := c.Head.Size - min(c.Head.Height, c.Head.Size)
	height := render.Count(c.Head.Height, "block")
	if c.Head.Height > 0 {
		height += "  head " + c.Head.Hash.String()[:16]
	}
	line := func(name, format string, args ...any) {
		fmt.Fprintf(b, "%-9s"+format+"\n", append([]any{name}, args...)...)
	}
	line("leader", "%s  term %d", leader, c.Term)
	line("height", "%s", height)
	line("records", "%d (the tree has %d leaves)", records, c.Head.Size)
	line("stored", "%s on %s or more", render.Count(c.Stored, "block"), render.Count(int(c.Replicas), "storage node"))
	line("signed", "%d leaves%s", c.Checkpoint.PublishedSize, waitsText(c.Checkpoint))
	line("buffer", "%s, %s", render.Count(c.Buffer.Records, "record"), render.Bytes(c.Buffer.Bytes))
	line("pending", "%s, %s with the buffer", render.Count(c.Pending.Blocks, "block"), render.Bytes(c.Pending.Bytes))
	if c.Keys.Remembered > 0 {
		line("retries", "%s remembered, the oldest for %s", render.Count(c.Keys.Remembered, "key"),
			time.Duration(c.Keys.Seconds)*time.Second)
	}
}

// waitsText tells of a checkpoint that is not shown yet.
func waitsText(c wire.Checkpoints) string {
	if c.PublishedSize == c.Size {
		return ""
	}
	return fmt.Sprintf(", a checkpoint of %d waits for witnesses", c.Size)
}

// writeNodes writes one table of nodes. Where a row is too long its addresses are shortened, those of the columns in
// shrink.
func writeNodes(b *strings.Builder, width int, shrink []int, head []string, count int, row func(i int) []string) {
	rows := [][]string{head}
	for i := range count {
		cells := row(i)
		for k := range cells {
			cells[k] = render.Plain(cells[k])
		}
		cells[0] = render.Elide(cells[0], render.MaxID)
		rows = append(rows, cells)
	}
	if count == 0 {
		rows = [][]string{{head[0], "none"}}
		shrink = nil
	}
	render.Fit(rows, width, shrink...)
	b.WriteByte('\n')
	_ = render.Rows(b, rows) // a strings.Builder takes everything
}

// livenessKnown reports whether the leader told the status: another master does not know who is live, and says of the
// other masters that their state is unknown.
func livenessKnown(c *wire.Cluster) bool {
	for i := range c.Masters {
		if c.Masters[i].State == "unknown" {
			return false
		}
	}
	return true
}

func liveText(live, known bool) string {
	switch {
	case !known:
		return "?"
	case live:
		return "yes"
	}
	return "no"
}

// masterText is a master's state, and whether it is still catching up.
func masterText(m wire.Master) string {
	if !m.Voter {
		return m.State + ", no vote yet"
	}
	return m.State
}
