package inspect

import (
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/chainstore/chainstore/client"
	"github.com/chainstore/chainstore/cmd/chainstore/internal/cli"
	"github.com/chainstore/chainstore/cmd/chainstore/internal/render"
)

// defaultEvents is the number of events shown by default.
const defaultEvents = 20

// NewIntegrity shows the state of the storage nodes and the integrity log.
func NewIntegrity() *cobra.Command {
	var limit uint64
	var asJSON bool
	cmd := cli.UseCluster(&cobra.Command{
		Use:   "integrity",
		Short: "Show the state of the storage nodes, lost blocks, and what was found and repaired",
		Long: `Show the storage nodes: their state, when each was last checked, which blocks are bad, and which tasks
are running or due. Also show lost blocks and the integrity log, which has what was found and repaired, the newest
first.`,
	}, cli.AsAny, -1, func(cmd *cobra.Command, c *client.Client, _ []string) error {
		in, err := c.Integrity(cmd.Context())
		if err != nil {
			return err
		}
		older := 0
		if limit != 0 && uint64(len(in.Events)) > limit {
			older = len(in.Events) - int(limit)
			in.Events = in.Events[:limit]
		}
		out := cmd.OutOrStdout()
		if asJSON {
			return render.JSON(out, in)
		}
		_, err = io.WriteString(out, render.Integrity(&in, older, time.Now(), render.Width(out)))
		return err
	})
	cmd.Flags().Uint64Var(&limit, "limit", defaultEvents, "show at most `N` events, 0 for all that are kept")
	cli.NoFiles(cmd, "limit")
	cli.AddJSON(cmd, &asJSON, "print everything as one JSON object on a line")
	return cmd
}
