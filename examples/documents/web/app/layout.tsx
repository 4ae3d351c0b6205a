import { ClerkProvider } from "@clerk/nextjs";
import type { Metadata } from "next";
import type { ReactNode } from "react";

import { Bar } from "./bar";
import "./globals.css";

export const metadata: Metadata = { title: { default: "Documents", template: "%s · Documents" } };

export default function RootLayout({ children }: { children: ReactNode }) {
  return (
    <html lang="en">
      <body>
        <ClerkProvider afterSignOutUrl="/">
          <Bar />
          <main>{children}</main>
        </ClerkProvider>
      </body>
    </html>
  );
}
