package inspect

import (
	"time"

	"github.com/spf13/cobra"

	"github.com/chainstore/chainstore/cmd/chainstore/internal/cli"
	"github.com/chainstore/chainstore/cmd/chainstore/internal/render"
)

// defaultEvents is the number of events shown by default.
const defaultEvents = 20

// NewIntegrity shows the state of the storage nodes and the integrity log.
func NewIntegrity() *cobra.Command {
	var limit uint64
	cmd := cli.UseCluster(&cobra.Command{
		Use:   "integrity",
		Short: "Show the state of the storage nodes, lost blocks, and what was found and repaired",
		Long: `Show the storage nodes: their state, when each was last checked, which blocks are bad, and which tasks
are running or due. Also show lost blocks and the integrity log, which has what was found and repaired, the newest
first.`,
	}, cli.Use{
		Role: cli.AsAny, RetryFor: -1, JSON: "print everything as one JSON object on a line",
	}, func(c *cli.Call) error {
		in, err := c.Integrity(c.Ctx)
		if err != nil {
			return err
		}
		older := 0
		if limit != 0 && uint64(len(in.Events)) > limit {
			older = len(in.Events) - int(limit)
			in.Events = in.Events[:limit]
		}
		return c.Print(in, render.Integrity(&in, older, time.Now(), render.Width(c.Out)))
	})
	cmd.Flags().Uint64Var(&limit, "limit", defaultEvents, "show at most `N` events, 0 for all that are kept")
	cli.NoFiles(cmd, "limit")
	return cmd
}
