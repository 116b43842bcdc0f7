package admin

import (
	"cmp"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/chainstore/chainstore/cmd/chainstore/internal/cli"
	"github.com/chainstore/chainstore/cmd/chainstore/internal/render"
	"github.com/chainstore/chainstore/wire"
)

func newLogWitnessesCommand() *cobra.Command {
	return cli.UseCluster(&cobra.Command{
		Use:   "witnesses",
		Short: "Show the witnesses that cosign checkpoints, and their state",
		Long: `Show the witnesses that are asked to cosign checkpoints (--witness of the masters), and the result of
the leader's last request: 'ok', 'new' before the first request, 'down' without an answer, 'refused' with an answer
but no valid cosignature, and 'behind' if the witness has cosigned a larger tree than is stored here. 'chainstore
verify --witness' accepts the verifier keys.`,
	}, cli.Use{Role: cli.AsAnyone, JSON: "print one JSON object a line for each witness"}, func(c *cli.Call) error {
		log, err := c.Log(c.Ctx)
		if err != nil {
			return err
		}
		return cli.PrintList(c, log.Witnesses, witnessesText(&log))
	})
}

// witnessesText formats the witnesses as tables.
func witnessesText(log *wire.Log) string {
	need := "checkpoints are published without waiting for cosignatures"
	if log.Quorum > 0 {
		need = fmt.Sprintf("a checkpoint is published when %d of them have cosigned it", log.Quorum)
	}
	if len(log.Witnesses) == 0 {
		return "no witnesses are known: none is configured, the leader does not answer, or the log is private and no " +
			"token was given\n"
	}
	titles := render.Row{"WITNESS", "STATE", "SIZE", "LAST", "URL", "ERROR"}
	states := render.Rows(titles, log.Witnesses, func(w *wire.Witness) render.Row {
		return render.Row{w.Name, w.State, w.Size, render.OrDash(w.Last, render.LocalTime), w.URL, cmp.Or(w.Error, "-")}
	})
	keys := render.Rows(render.Row{"VERIFIER KEY"}, log.Witnesses, func(w *wire.Witness) render.Row {
		return render.Row{w.VerifierKey}
	})
	return need + "\n\n" + render.Table(states...) + "\n" + render.Table(keys...)
}
