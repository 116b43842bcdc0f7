package admin

import (
	"fmt"
	"io"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/chainstore/chainstore/client"
	"github.com/chainstore/chainstore/cmd/chainstore/internal/cli"
	"github.com/chainstore/chainstore/cmd/chainstore/internal/render"
	"github.com/chainstore/chainstore/wire"
)

func newLogWitnessesCommand() *cobra.Command {
	var asJSON bool
	cmd := cli.UseCluster(&cobra.Command{
		Use:   "witnesses",
		Short: "Show the witnesses that cosign checkpoints, and their state",
		Long: `Show the witnesses that are asked to cosign checkpoints (--witness of the masters), and the result of
the leader's last request: 'ok', 'new' before the first request, 'down' without an answer, 'refused' with an answer
but no valid cosignature, and 'behind' if the witness has cosigned a larger tree than is stored here. 'chainstore
verify --witness' accepts the verifier keys.`,
	}, cli.AsAnyone, 0, func(cmd *cobra.Command, c *client.Client, _ []string) error {
		log, err := c.Log(cmd.Context())
		if err != nil {
			return err
		}
		out := cmd.OutOrStdout()
		if !asJSON {
			return printWitnesses(out, &log)
		}
		for _, w := range log.Witnesses {
			if err := render.JSON(out, w); err != nil {
				return err
			}
		}
		return nil
	})
	cli.AddJSON(cmd, &asJSON, "print one JSON object a line for each witness")
	return cmd
}

// printWitnesses prints the witnesses as tables.
func printWitnesses(w io.Writer, log *wire.Log) error {
	need := "checkpoints are published without waiting for cosignatures"
	if log.Quorum > 0 {
		need = fmt.Sprintf("a checkpoint is published when %d of them have cosigned it", log.Quorum)
	}
	if len(log.Witnesses) == 0 {
		need = "no witnesses are known: none is configured, the leader does not answer, or the log is private and no " +
			"token was given"
	}
	if _, err := fmt.Fprintln(w, need); err != nil || len(log.Witnesses) == 0 {
		return err
	}
	rows := [][]string{{"WITNESS", "STATE", "SIZE", "LAST", "URL", "ERROR"}}
	var keys [][]string
	for i := range log.Witnesses {
		one := &log.Witnesses[i]
		rows = append(rows, []string{
			render.Plain(one.Name), render.Plain(string(one.State)), strconv.FormatUint(one.Size, 10),
			render.TimeOrDash(one.Last), render.Plain(one.URL), render.Plain(render.OrDash(one.Error)),
		})
		keys = append(keys, []string{render.Plain(one.VerifierKey)})
	}
	for _, table := range [][][]string{rows, append([][]string{{"VERIFIER KEY"}}, keys...)} {
		if _, err := fmt.Fprintln(w); err != nil {
			return err
		}
		if err := render.Rows(w, table); err != nil {
			return err
		}
	}
	return nil
}
