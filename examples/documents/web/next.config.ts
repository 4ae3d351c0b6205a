import type { NextConfig } from "next";

// Beside the emulator Clerk's frontend is asked through this app's own origin, so that the browser knows one alone.
const emulator = process.env.TENANTRY_EMULATOR_URL;

const config: NextConfig = {
  outputFileTracingRoot: __dirname, // whatever lock files lie in folders above
  poweredByHeader: false,
  rewrites: async () =>
    emulator ? [{ source: "/__clerk/:path*", destination: `${emulator}/__clerk/:path*` }] : [],
};

export default config;
