/* Empty: bcc carries its own. */
