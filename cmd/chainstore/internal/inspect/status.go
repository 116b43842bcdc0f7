// Package inspect has the commands that show the state of a cluster and have its storage nodes checked: status, blocks,
// integrity and check.
package inspect

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/chainstore/chainstore/client"
	"github.com/chainstore/chainstore/cmd/chainstore/internal/cli"
	"github.com/chainstore/chainstore/cmd/chainstore/internal/render"
	"github.com/chainstore/chainstore/wire"
)

// NewStatus shows the cluster.
func NewStatus() *cobra.Command {
	var asJSON, watch bool
	cmd := cli.UseCluster(&cobra.Command{
		Use:   "status",
		Short: "Show the cluster: leader, chain, masters, storage nodes, miners",
		Long: `Show the cluster as its leader sees it, through any master that answers: the chain's head, the records
to be mined and blocks to be stored, the nodes and their states, and problems that need attention.

With --watch it repeats once a second until Ctrl-C. On a terminal it redraws; elsewhere it prints each status that
differs from the previous one.`,
		// It asks each master once, so that it reports at once that none answers.
	}, cli.AsAny, -1, func(cmd *cobra.Command, c *client.Client, _ []string) error {
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
	})
	cli.AddJSON(cmd, &asJSON, "print the status as one JSON object on a line")
	cmd.Flags().BoolVarP(&watch, "watch", "w", false, "repeat it once a second")
	return cmd
}

// printStatus prints the status as tables.
func printStatus(w io.Writer, c *wire.Cluster) error {
	_, err := io.WriteString(w, statusText(c, render.Width(w)))
	return err
}

// statusText formats the status. No line is wider than width, which is at least [render.StandardWidth].
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

// writeHead writes the state of the cluster as a whole.
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
	// A block adds a leaf for each of its records and one for its seal.
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
	line("signed", "%d leaves%s", c.Checkpoint.PublishedSize, pendingCheckpoint(c.Checkpoint))
	line("buffer", "%s, %s", render.Count(c.Buffer.Records, "record"), render.Bytes(c.Buffer.Bytes))
	line("pending", "%s, %s with the buffer", render.Count(c.Pending.Blocks, "block"), render.Bytes(c.Pending.Bytes))
	if c.Keys.Remembered > 0 {
		line("retries", "%s remembered, the oldest for %s", render.Count(c.Keys.Remembered, "key"),
			time.Duration(c.Keys.Seconds)*time.Second)
	}
}

// pendingCheckpoint describes a checkpoint that is not published yet, "" for none.
func pendingCheckpoint(c wire.Checkpoints) string {
	if c.PublishedSize == c.Size {
		return ""
	}
	return fmt.Sprintf(", a checkpoint of %d waits for witnesses", c.Size)
}

// writeNodes writes one table of nodes. If a row is too wide, the cells of the columns in shrink are shortened.
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
	_ = render.Rows(b, rows) // a strings.Builder never fails
}

// livenessKnown reports whether the status comes from the leader. Other masters do not know which nodes are live, and
// report the state of the other masters as unknown.
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

// masterText formats the state of a master, and whether it is still catching up.
func masterText(m wire.Master) string {
	if !m.Voter {
		return m.State + ", no vote yet"
	}
	return m.State
}
