/*
 * The resolve hook of bootstrap.cjs for the versions of Node.js that run such hooks in a thread of their own (18.19 to
 * 22.14): a package that an ES module imports and that is not above it is looked for from each of `parents`.
 */

let parents = [];

export function initialize(data) {
  parents = data;
}

export async function resolve(specifier, context, nextResolve) {
  try {
    return await nextResolve(specifier, context);
  } catch (error) {
    if (error.code !== 'ERR_MODULE_NOT_FOUND' || !/^[@a-z0-9]/i.test(specifier)) throw error;
    for (const parentURL of parents) {
      try {
        return await nextResolve(specifier, { ...context, parentURL });
      } catch {
        // The next directory may have it.
      }
    }
    throw error;
  }
}
