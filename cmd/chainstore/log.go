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

// newLogCommand is the parent of the commands on the log: the tree as the cluster signs it.
func newLogCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "log",
		Short: "Show the log's keys and checkpoints, back up and change its keys",
		Long: `Show the log: the tree as the cluster signs it, for those who trust nobody. Its keys are what they
verify a checkpoint or a receipt with, so give
them to your auditors by another way than the cluster itself.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newLogShowCommand(), newLogKeyCommand(), newLogWitnessesCommand(), newLogCheckpointCommand(),
		newLogBackupCommand())
	return cmd
}

func newLogShowCommand() *cobra.Command {
	var asJSON bool
	cmd := newClusterCommand(&cobra.Command{
		Use:   "show",
		Short: "Show the log's name, its size and its keys, the retired ones too",
	}, asAnyone, "", nil, func(cmd *cobra.Command, c *client.Client, _ []string) error {
		log, err := c.Log(cmd.Context())
		if err != nil {
			return err
		}
		out := cmd.OutOrStdout()
		if asJSON {
			return render.JSON(out, log)
		}
		return printLog(out, &log)
	})
	addJSON(cmd, &asJSON, "print one JSON object")
	return cmd
}

// printLog prints the log, for people.
func printLog(w io.Writer, log *wire.Log) error {
	size, open := "not told without a token", "everybody"
	if log.Size != nil {
		size = strconv.FormatUint(*log.Size, 10)
	}
	if log.Private {
		open = "who has a token of the cluster"
	}
	if err := render.Rows(w, [][]string{{"origin", render.Plain(render.OrDash(log.Origin))}, {"size", size},
		{"open to", open}}); err != nil {
		return err
	}
	rows := [][]string{{"KEY", "SINCE", "RETIRED", "VERIFIER KEY"}}
	for _, k := range log.Keys {
		retired := "-"
		if k.Retired != 0 {
			retired = localTime(k.Retired)
		}
		rows = append(rows, []string{k.ID, localTime(k.Since), retired, render.Plain(k.VerifierKey)})
	}
	if _, err := fmt.Fprintln(w); err != nil {
		return err
	}
	return render.Rows(w, rows)
}

// newLogKeyCommand prints the keys that sign, and is the parent of the commands that change them.
func newLogKeyCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "key",
		Short: "Print the log's keys that sign, as verifiers take them, or change them",
		Long: `Print the log's keys that sign, one verifier key a line (C2SP signed-note), as 'chainstore verify
--key' takes them.

To replace a key: 'chainstore log key add', give the new verifier key to all who verify, and 'chainstore log key
retire' the old one when they have it.
What the old one signed stays good for those who keep its verifier key. docs/operations.md tells more.`,
		Example: `  chainstore log key > log.vkey
  chainstore log key add --admin-token-file admin.token
  chainstore log key retire 9d2a7c31 --admin-token-file admin.token`,
		Args:              cobra.NoArgs,
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	connect := addLocalConnection(cmd, asAnyone)
	addJSON(cmd, &asJSON, "print one JSON object a line for each key")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		c, err := connect.open(0)
		if err != nil {
			return err
		}
		defer c.CloseIdle()
		log, err := c.Log(cmd.Context())
		if err != nil {
			return err
		}
		for _, k := range log.Keys {
			if k.Retired != 0 {
				continue
			}
			if err := printLogKey(cmd.OutOrStdout(), k, asJSON); err != nil {
				return err
			}
		}
		return nil
	}
	cmd.AddCommand(newLogKeyAddCommand(), newLogKeyRetireCommand())
	return cmd
}

func printLogKey(w io.Writer, k wire.LogKey, asJSON bool) error {
	if asJSON {
		return render.JSON(w, k)
	}
	_, err := fmt.Fprintln(w, render.Plain(k.VerifierKey))
	return err
}

func newLogKeyAddCommand() *cobra.Command {
	var asJSON bool
	cmd := newClusterCommand(&cobra.Command{
		Use:   "add",
		Short: "Make a key that signs beside the others, and print its verifier key",
		Long: `Make a key that signs beside the others, and print its verifier key. From then on every checkpoint has
a signature of it too. Its private
part never leaves the masters but by 'chainstore log backup'.`,
	}, asAdmin, "", nil, func(cmd *cobra.Command, c *client.Client, _ []string) error {
		k, err := c.AddLogKey(cmd.Context())
		if err != nil {
			return err
		}
		return printLogKey(cmd.OutOrStdout(), k, asJSON)
	})
	addJSON(cmd, &asJSON, "print one JSON object")
	return cmd
}

func newLogKeyRetireCommand() *cobra.Command {
	return newClusterCommand(&cobra.Command{
		Use:   "retire",
		Short: "Have a key sign no more, for good",
		Long: `Have a key sign no more, for good. What it signed stays good for those who keep its verifier key. Its
private part leaves the masters' table;
in older log entries and snapshots of the masters it stays until these are dropped, sealed under the cluster token,
and in backups it stays. So after a theft
tell those who verify which key no longer counts.
The last key that signs cannot be retired, nor the last that opens under the cluster token: add its successor first.`,
	}, asAdmin, "one key by its id", []string{"KEY-ID"},
		func(cmd *cobra.Command, c *client.Client, args []string) error {
			if err := c.RetireLogKey(cmd.Context(), args[0]); err != nil {
				return err
			}
			_, err := fmt.Fprintf(cmd.OutOrStdout(), "key %s is retired\n", render.Plain(args[0]))
			return err
		})
}

func newLogCheckpointCommand() *cobra.Command {
	return newClusterCommand(&cobra.Command{
		Use:   "checkpoint",
		Short: "Print the newest checkpoint, a signed note, as it comes: nothing is verified",
		Long: `Print the newest checkpoint as it comes: a signed note (C2SP tlog-checkpoint) with the log's name, the
size and the root of its tree, and
signatures. Nothing is verified: 'chainstore verify --url' does that.`,
	}, asAnyone, "", nil, func(cmd *cobra.Command, c *client.Client, _ []string) error {
		note, err := c.Checkpoint(cmd.Context())
		if err != nil {
			return err
		}
		_, err = cmd.OutOrStdout().Write(note)
		return err
	})
}
