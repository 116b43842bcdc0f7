package main

import (
	"fmt"
	"io"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/chainstore/chainstore/client"
	"github.com/chainstore/chainstore/cmd/chainstore/internal/render"
	"github.com/chainstore/chainstore/wire"
)

func newLogWitnessesCommand() *cobra.Command {
	var asJSON bool
	cmd := newClusterCommand(&cobra.Command{
		Use:   "witnesses",
		Short: "Show the witnesses that are asked to cosign checkpoints, and how the leader gets on with them",
		Long: `Show the witnesses that are asked to cosign checkpoints (--witness of the masters), and how the leader
gets on with them: 'ok', 'new' while it has
not asked yet, 'down' where there is no answer, 'refused' where there is one and no good cosignature, and 'behind'
where the witness has cosigned a
larger tree than is stored here. The verifier keys are what 'chainstore verify --witness' takes.`,
	}, asAnyone, "", nil, func(cmd *cobra.Command, c *client.Client, _ []string) error {
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
	addJSON(cmd, &asJSON, "print one JSON object a line for each witness")
	return cmd
}

// printWitnesses prints the witnesses, for people.
func printWitnesses(w io.Writer, log *wire.Log) error {
	need := "checkpoints are shown without waiting for cosignatures"
	if log.Quorum > 0 {
		need = fmt.Sprintf("a checkpoint is shown when %d of them have cosigned it", log.Quorum)
	}
	if len(log.Witnesses) == 0 {
		need = "no witnesses are told: none is configured, the leader cannot be asked, or the log is private and no " +
			"token was shown"
	}
	if _, err := fmt.Fprintln(w, need); err != nil || len(log.Witnesses) == 0 {
		return err
	}
	rows := [][]string{{"WITNESS", "STATE", "SIZE", "LAST", "URL", "ERROR"}}
	var keys [][]string
	for i := range log.Witnesses {
		one := &log.Witnesses[i]
		last := "-"
		if one.Last != 0 {
			last = localTime(one.Last)
		}
		rows = append(rows, []string{
			render.Plain(one.Name), render.Plain(string(one.State)), strconv.FormatUint(one.Size, 10), last,
			render.Plain(one.URL), render.Plain(render.OrDash(one.Error)),
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
