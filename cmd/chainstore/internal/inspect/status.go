// Package inspect has the commands that show the state of a cluster and have its storage nodes checked: status, blocks,
// integrity and check.
package inspect

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/chainstore/chainstore/cmd/chainstore/internal/cli"
	"github.com/chainstore/chainstore/cmd/chainstore/internal/render"
	"github.com/chainstore/chainstore/wire"
)

// NewStatus shows the cluster.
func NewStatus() *cobra.Command {
	var watch bool
	cmd := cli.UseCluster(&cobra.Command{
		Use:   "status",
		Short: "Show the cluster: leader, chain, masters, storage nodes, miners",
		Long: `Show the cluster as its leader sees it, through any master that answers: the chain's head, the records
to be mined and blocks to be stored, the nodes and their states, and problems that need attention.

With --watch it repeats once a second until Ctrl-C. On a terminal it redraws; elsewhere it prints each status that
differs from the previous one.`,
	}, cli.Use{
		Role: cli.AsAny, JSON: "print the status as one JSON object on a line",
		RetryFor: -1, // ask each master once, to report at once that none answers
	}, func(c *cli.Call) error {
		width, between := render.Width(c.Out), "\n"
		if c.JSON {
			between = ""
		}
		print := func(to io.Writer, status *wire.Cluster) error {
			return render.Print(to, c.JSON, status, statusText(status, width))
		}
		if !watch {
			status, err := c.Cluster(c.Ctx)
			if err != nil {
				return err
			}
			return print(c.Out, &status)
		}
		tick := time.NewTicker(time.Second)
		defer tick.Stop()
		w := &watcher{
			fetch: c.Cluster, print: print, ticks: tick.C, out: c.Out, errs: c.Cmd.ErrOrStderr(),
			redraw: render.IsTerminal(c.Out) && !c.JSON, width: width, between: between,
		}
		return w.run(c.Ctx)
	})
	cmd.Flags().BoolVarP(&watch, "watch", "w", false, "repeat it once a second")
	return cmd
}

// statusText formats the status. No line is wider than width, which is at least [render.StandardWidth].
func statusText(c *wire.Cluster, width int) string {
	var b strings.Builder
	writeHead(&b, c, width)
	known := livenessKnown(c)
	masters := render.Rows(render.Row{"MASTER", "URL", "RAFT", "STATE"}, c.Masters, func(m *wire.Master) render.Row {
		return render.Row{render.ID(m.ID), cmp.Or(m.URL, "-"), cmp.Or(m.Raft, "-"), masterText(*m)}
	})
	storages := render.Rows(render.Row{"STORAGE", "URL", "STATE", "HEIGHT", "LAG", "LIVE"}, c.Storages,
		func(s *wire.Storage) render.Row {
			lag := max(c.Head.Height, s.Height) - s.Height
			return render.Row{render.ID(s.ID), s.URL, s.State, s.Height, lag, liveText(s.Live, known)}
		})
	miners := render.Rows(render.Row{"MINER", "URL", "LIVE"}, c.Miners, func(m *wire.Miner) render.Row {
		return render.Row{render.ID(m.ID), m.URL, liveText(m.Live, known)}
	})
	b.WriteString("\n" + render.FitOrNone(width, []int{1, 2}, masters...))
	b.WriteString("\n" + render.FitOrNone(width, []int{1}, storages...))
	b.WriteString("\n" + render.FitOrNone(width, []int{1}, miners...))
	if len(c.Waiting) > 0 {
		waiting := render.Rows(render.Row{"WAITING", "ROLE", "URL", "APPROVED"}, c.Waiting,
			func(w *wire.WaitingWorker) render.Row {
				approved := "no"
				if w.Approved {
					approved = "yes"
				}
				return render.Row{w.ID, w.Role, w.URL, approved} // the whole id, since it is compared and typed
			})
		b.WriteString("\n" + render.FitOrNone(width, []int{2}, waiting...))
	}
	if len(c.Notices) > 0 {
		b.WriteByte('\n')
	}
	for _, notice := range c.Notices {
		render.WriteWrapped(&b, "! ", notice, width)
	}
	return b.String()
}

// writeHead writes the state of the cluster as a whole.
func writeHead(b *strings.Builder, c *wire.Cluster, width int) {
	leader := "none known"
	if c.Leader != "" {
		leader = render.ID(render.Plain(c.Leader))
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
	if c.TLS != wire.TLSByFlags {
		line("tls", "%s", c.TLS.Name())
	}
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

// livenessKnown reports whether the status comes from the leader. Other masters do not know which nodes are live, and
// report the state of the other masters as unknown.
func livenessKnown(c *wire.Cluster) bool {
	return !slices.ContainsFunc(c.Masters, func(m wire.Master) bool { return m.State == "unknown" })
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
